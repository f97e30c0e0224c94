#!lua flags=allow-oom
-- include: clock args queueing telling leases ending
-- Revoke a job: end it if it waits, mark it if it runs.
--
-- KEYS  none (they follow from the job)
-- ARGV  id, 1 = terminate it if it runs, created_at of the job meant ('' = any)
-- returns  1 it ended, 2 it runs and is marked, 3 it had ended before, 0 there is
--          no such job, -1 the key holds something that is no job
--
-- The id stays in its queue, where claim drops it: finding it is O(queue).

local id, terminate, created = arg(), arg() == '1', arg()
local key = K.job .. id
local row = redis.pcall('HMGET', key, 'status', 'origin', 'worker_name', 'tq_forgotten',
  'tq_parked', 'created_at', 'tq_entry')
if row.err then return -1 end
local status, queue = row[1], row[2] or ''
if not status or row[4] or row[7] then return 0 end
if created ~= '' and row[6] ~= created then return 0 end
if status == 'started' then
  if redis.call('HGET', key, 'tq_revoked') ~= 'terminate' then
    redis.call('HSET', key, 'tq_revoked', terminate and 'terminate' or 'revoke')
  end
  if terminate and row[3] and row[3] ~= '' then
    -- RQ's own command, which a plain RQ worker understands too.
    redis.call('PUBLISH', K.commands .. row[3],
      cjson.encode({command = 'stop-job', job_id = id}))
  end
  return 2
end
if status == 'finished' or status == 'failed' or status == 'canceled'
  or status == 'stopped' then return 3 end
redis.call('ZREM', K.scheduled .. queue, id)
redis.call('ZREM', K.deferred .. queue, id)
if row[5] then redis.call('ZREM', K.parked .. row[5], id) end
end_revoked(id, queue, 'revoked')
return 1
