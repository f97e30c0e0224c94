#!lua flags=allow-oom
-- include: clock args entries
-- Remove an entry and everything that is kept of it. Its jobs stay.
--
-- KEYS  none (they follow from the entry)
-- ARGV  app, id
-- returns  1 removed, 0 there was no such entry

local app, id = arg(), arg()
-- Both raise where a shared key holds something else, before anything is deleted.
times(app, id)
redis.call('SISMEMBER', K.entries .. app, id)
local existed = redis.call('EXISTS', K.entry .. id)
erase(app, id)
if existed == 1 then tell_entries(app) end
return existed
