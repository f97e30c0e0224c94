#!lua flags=allow-oom
-- include: clock args leases
-- Reconcile what a worker runs with what Redis says it may run.
--
-- KEYS  none (they follow from the executions)
-- ARGV  worker, lease in seconds, TTL of the worker's record in seconds, counted
--       list of pairs for the record, jobs succeeded, jobs failed, seconds worked
--       since the last call, counted list of queues, counted list of executions
--       held (queue, id, execution in turn)
-- returns  {lost, stop, unknown}: executions that are no longer this worker's,
--          those whose job is to be terminated, and {queue, id, execution} that
--          Redis gives to this worker but it did not name
--
-- An expired lease that nobody took is revived.

local worker, lease, ttl = arg(), count(), arg()
local record = list()
local succeeded, failed, worked = arg(), arg(), arg()
local queues, held = list(), list()

local key = K.worker .. worker
local added = redis.call('HSET', key, 'last_heartbeat', stamp(now), unpack(record))
redis.call('EXPIRE', key, ttl)
if added > 0 then
  -- It is new, or had expired and was taken out of the sets.
  redis.call('SADD', K.workers, key)
  for _, queue in ipairs(queues) do redis.call('SADD', K.workers_of .. queue, key) end
end
if succeeded ~= '0' then redis.call('HINCRBY', key, 'successful_job_count', succeeded) end
if failed ~= '0' then redis.call('HINCRBY', key, 'failed_job_count', failed) end
if worked ~= '0' then redis.call('HINCRBYFLOAT', key, 'total_working_time', worked) end

local ends = seconds(now + lease + 86400)
local lost, stop, known = {}, {}, {}
for i = 1, #held, 3 do
  local queue, id, execution = held[i], held[i + 1], held[i + 2]
  local member = id .. ':' .. execution
  known[member] = true
  if redis.call('ZSCORE', K.wip .. queue, member) then
    redis.call('ZADD', K.wip .. queue, ends, member)
    -- Somebody may have deleted the hash, or put something else there.
    local row = redis.pcall('HMGET', K.job .. id, 'status', 'tq_revoked')
    if row[1] then redis.call('HSET', K.job .. id, 'last_heartbeat', stamp(now)) end
    redis.call('HSET', K.execution .. member, 'id', execution, 'last_heartbeat',
      seconds(now), 'worker_name', worker)
    redis.call('HSETNX', K.execution .. member, 'created_at', seconds(now))
    redis.call('EXPIRE', K.execution .. member, 60)
    redis.call('ZADD', K.executions .. id, ends, execution)
    redis.call('EXPIRE', K.executions .. id, 60)
    if row[2] == 'terminate' then stop[#stop + 1] = execution end
  else
    lost[#lost + 1] = execution
  end
end

local unknown = {}
local prefix = worker .. '.'
for _, queue in ipairs(queues) do
  for _, member in ipairs(redis.call('ZRANGE', K.wip .. queue, 0, -1)) do
    local id, execution = split(member)
    if id and not known[member] and string.sub(execution, 1, #prefix) == prefix then
      unknown[#unknown + 1] = {queue, id, execution}
    end
  end
end
return {lost, stop, unknown}
