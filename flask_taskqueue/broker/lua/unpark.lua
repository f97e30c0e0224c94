#!lua flags=allow-oom
-- include: clock args
-- Put parked jobs of a task that a worker knows back into the queues it serves.
--
-- In front, where waiters do not look: one of a worker that does not know the task
-- would be as fast as the caller's, and park it again.
--
-- KEYS  none (they follow from the jobs)
-- ARGV  task, most jobs to look at, counted list of queues
-- returns  number of jobs put back

local task, most, served = arg(), count(), {}
for _, queue in ipairs(list()) do served[queue] = true end
local set = K.parked .. task
local moved = 0
-- From another place each time: many that wait for a queue not served here must not
-- hide one behind them.
local hidden = math.max(redis.call('ZCARD', set) - most, 0)
local first = math.floor(now * 1000) % (hidden + 1)
for _, id in ipairs(redis.call('ZRANGE', set, first, first + most - 1)) do
  local row = redis.pcall('HMGET', K.job .. id, 'status', 'origin')
  if row.err or row[1] ~= 'deferred' then
    redis.call('ZREM', set, id)
  elseif served[row[2]] then
    redis.call('ZREM', set, id)
    redis.call('ZREM', K.deferred .. row[2], id)
    redis.call('HSET', K.job .. id, 'status', 'queued')
    redis.call('RPUSH', K.ready .. row[2], id)
    moved = moved + 1
  end
end
if redis.call('EXISTS', set) == 0 then redis.call('SREM', K.parked_names, task) end
return moved
