-- Put a job where it waits: at the end or front of its queue, or in RQ's
-- scheduled set. Needs clock, args.

local function push(queue, id, front)
  redis.call(front and 'LPUSH' or 'RPUSH', K.queue .. queue, id)
  redis.call('SADD', K.queues, K.queue .. queue)
end

-- The publish tells sleeping workers that a new earliest due time exists.
local function schedule(queue, id, at)
  local set = K.scheduled .. queue
  redis.call('ZADD', set, seconds(at), id)
  redis.call('SADD', K.queues, K.queue .. queue)
  if redis.call('ZRANK', set, id) == 0 then redis.call('PUBLISH', K.wake, queue) end
end

-- A job to be written: id, queue, 1 = front, due ('' now, '+S', epoch),
-- expires (the same), then a counted list of field, value pairs.
local function read_job()
  return {
    id = arg(), queue = arg(), front = arg() == '1', due = instant(arg()),
    expires = instant(arg()), fields = list(),
  }
end

local function write_job(job)
  local at = stamp(now)
  local waits = job.due and job.due > now
  local fields = extend(job.fields, {
    'created_at', at, 'origin', job.queue, 'status', waits and 'scheduled' or 'queued',
  })
  if not waits then extend(fields, {'enqueued_at', at}) end
  if job.due then extend(fields, {'tq_eta', seconds(job.due)}) end
  if job.expires then extend(fields, {'tq_expires', seconds(job.expires)}) end
  if job.front then extend(fields, {'enqueue_at_front', '1'}) end
  redis.call('HSET', K.job .. job.id, unpack(fields))
  if waits then
    schedule(job.queue, job.id, job.due)
  else
    push(job.queue, job.id, job.front)
  end
end
