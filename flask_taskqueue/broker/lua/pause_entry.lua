#!lua flags=allow-oom
-- include: clock args entries
-- Let an entry fire no more until it is resumed.
--
-- KEYS  none (they follow from the entry)
-- ARGV  app, id
-- returns  1 it is paused now, 2 it was before, 0 there is no such entry, -1 the key
--          holds something else

local DONE, DONE_BEFORE, NO_ENTRY, NOT_A_JOB = 1, 2, 0, -1

local app, id = arg(), arg()
local key = K.entry .. id
local row = redis.pcall('HMGET', key, 'fingerprint', 'paused')
if row.err then return NOT_A_JOB end
if not row[1] then return NO_ENTRY end
local score, indexed = times(app, id)
if score or indexed then set_due(app, id, '') end
if row[2] then return DONE_BEFORE end
redis.call('HSET', key, 'paused', '1')
if score then redis.call('HSET', key, 'due', seconds(tonumber(score))) end
tell_entries(app)
return DONE
