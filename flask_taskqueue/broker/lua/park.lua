#!lua flags=allow-oom
-- include: clock args queueing telling leases ending
-- Set a job aside whose task this worker does not know.
--
-- KEYS  none (they follow from the job)
-- ARGV  id, queue, execution, task
-- returns  1 parked, 0 refused: the lease is lost, or there is no such job

local id, queue, execution, task = arg(), arg(), arg(), arg()
if not take_lease(id, queue, execution) then return 0 end
drop_execution(id, execution)
-- Somebody deleted it, or put something else there: nothing to wait for.
local status = redis.pcall('HGET', K.job .. id, 'status')
if type(status) == 'table' then end_job(id, queue, 'failed', {}, {}) end
if type(status) ~= 'string' then return 0 end
redis.call('HSET', K.job .. id, 'status', 'deferred', 'started_at', '', 'worker_name', '',
  'tq_parked', task)
redis.call('ZADD', K.deferred .. queue, seconds(now), id)
redis.call('ZADD', K.parked .. task, 'NX', seconds(now), id)
redis.call('SADD', K.parked_names, task)
tell(id)
return 1
