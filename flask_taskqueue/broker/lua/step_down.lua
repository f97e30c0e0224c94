#!lua flags=allow-oom
-- include: args entries
-- Give up looking after an app's entries, so that another beat does at once.
--
-- KEYS  none (they follow from the app)
-- ARGV  app, name of the beat
-- returns  1 given up, 0 it did not lead
--
-- rq-scheduler's lock stays: other beats, or this one after its restart, rely on it.

local DONE, NOT_LEADING = 1, 0

local app, beat = arg(), arg()
if redis.pcall('GET', K.lead .. app) ~= beat then return NOT_LEADING end
redis.call('DEL', K.lead .. app)
tell_entries(app)
return DONE
