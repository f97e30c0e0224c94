#!lua
-- include: clock args queueing telling requeueing
-- Give the next failed jobs of a queue a new life. Those that somebody terminated
-- stay: they are among the failed only because RQ keeps them there.
--
-- KEYS  none (they follow from the queue)
-- ARGV  queue, nonce of this call, number of entries to leave out in front, most
--       entries to look at
-- returns  {entries looked at, those that stay, jobs that wait again}
--
-- Refused when memory is full, as enqueue is.

local queue, nonce, first, most = arg(), arg(), count(), count()
local set = K.failed .. queue
local ids = redis.pcall('ZRANGE', set, first, first + most - 1)
if ids.err then return {0, 0, 0} end
local stay, done = 0, 0
for _, id in ipairs(ids) do
  local status = redis.pcall('HGET', K.job .. id, 'status')
  if status == 'failed' and requeue(id, nonce) == 1 then
    done = done + 1
  elseif status then
    stay = stay + 1
  else
    redis.call('ZREM', set, id)
  end
end
return {#ids, stay, done}
