#!lua flags=allow-oom
-- include: clock args queueing ending
-- Set a job aside whose task this worker does not know.
--
-- KEYS  none (they follow from the job)
-- ARGV  id, queue, execution, task
-- returns  1 parked, 0 refused: the lease is lost

local id, queue, execution, task = arg(), arg(), arg(), arg()
if not take_lease(id, queue, execution) then return 0 end
drop_execution(id, execution)
redis.call('HSET', K.job .. id, 'status', 'deferred', 'started_at', '', 'worker_name', '')
redis.call('ZADD', K.deferred .. queue, seconds(now), id)
redis.call('ZADD', K.parked .. task, 'NX', seconds(now), id)
redis.call('SADD', K.parked_names, task)
return 1
