#!lua
-- include: clock args entries
-- Let an entry fire again that was paused, or that rq-scheduler's API cancelled.
--
-- KEYS  none (they follow from the entry)
-- ARGV  app, id, its next time ('' none), 1 = enabled: without a next time it is over
-- returns  1 it is resumed, 2 it was neither paused nor cancelled, 0 there is no such
--          entry, -1 the key holds something else

local DONE, DONE_BEFORE, NO_ENTRY, NOT_A_JOB = 1, 2, 0, -1

local app, id, at, enabled = arg(), arg(), arg(), arg() == '1'
if at ~= '' then at = seconds(tonumber(at)) end
local key = K.entry .. id
local row = redis.pcall('HMGET', key, 'fingerprint', 'paused', 'cancelled')
if row.err then return NOT_A_JOB end
if not row[1] then return NO_ENTRY end
-- Both raise where a shared key holds something else, before anything is written.
local score, indexed = times(app, id)
redis.call('SISMEMBER', K.entries .. app, id)
local held = row[2] or row[3]
if not held and score then
  -- It keeps its time; the index may have lost it.
  if indexed ~= score then redis.call('ZADD', K.due .. app, score, id) end
  return DONE_BEFORE
end
redis.call('HDEL', key, 'paused', 'cancelled')
set_due(app, id, at)
if at ~= '' then
  redis.call('HDEL', key, 'ended')
  keep(app, id)
elseif enabled then
  end_entry(app, id)
end
if not held and at == '' then return DONE_BEFORE end
tell_entries(app)
return DONE
