#!lua flags=allow-oom
-- include: clock args entries
-- Let an entry go on by a clock that was set back: it may be due again earlier than it
-- was last.
--
-- KEYS  none (they follow from the entry)
-- ARGV  app, id, fingerprint of the definition the caller knows, time it was last due as
--       the caller read it, its next time by the clock as it is
-- returns  1 done, 0 refused: it is not as the caller knows it, it is over, or it was not
--          last due later than now, -1 the key holds something else
--
-- A paused entry has no place in the set: its time is kept for when it is resumed.

local DONE, REFUSED, NOT_A_JOB = 1, 0, -1

local app, id, fingerprint, last_due = arg(), arg(), arg(), arg()
local at = seconds(tonumber(arg()))
local key = K.entry .. id
local row = redis.pcall('HMGET', key, 'fingerprint', 'last_due', 'ended')
if row.err then return NOT_A_JOB end
if row[1] ~= fingerprint or row[3] or not is_same(row[2] or '', last_due) then
  return REFUSED
end
-- The caller may have been stopped for a while: only the server's time now counts.
if (tonumber(last_due) or 0) <= now then return REFUSED end
local score = times(app, id)
redis.call('HDEL', key, 'last_due')
if score then
  set_due(app, id, at)
else
  redis.call('HSET', key, 'due', at)
end
tell_entries(app)
return DONE
