#!lua
-- include: clock args queueing telling requeueing walking
-- Give the next failed jobs of a queue a new life. Those that somebody terminated
-- stay: they are among the failed only because RQ keeps them there. So do those that
-- failed after the first call.
--
-- KEYS  none (they follow from the queue)
-- ARGV  queue, nonce of this call, time stamp of the first call ('' in that), the last
--       id that stays ('' at first), most entries to look at
-- returns  {time stamp of the first call, the last id that stays, entries looked at,
--          jobs that wait again}
--
-- By id, not by rank: jobs that fail again, and such that go, move the ranks.
-- Refused when memory is full, as enqueue is.

local queue, nonce, begun, last, most = arg(), arg(), arg(), arg(), count()
if begun == '' then begun = stamp(now) end
local set = K.failed .. queue
local ids, done = ids_behind(set, last, most), 0
for _, id in ipairs(ids) do
  local row = redis.pcall('HMGET', K.job .. id, 'status', 'ended_at')
  if row[1] == 'failed' and not is_later(row[2], begun) and requeue(id, nonce) == 1 then
    done = done + 1
  elseif row.err or row[1] then
    last = id
  else
    redis.call('ZREM', set, id)
  end
end
return {begun, last, #ids, done}
