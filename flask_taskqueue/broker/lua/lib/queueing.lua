-- Put a job where it waits: at the end or front of its queue, or in RQ's
-- scheduled set. Needs clock, args.

-- Whether the id is in the queue now: it is not where something else has its key.
local function place(queue, id, front)
  local length = redis.pcall(front and 'LPUSH' or 'RPUSH', K.queue .. queue, id)
  redis.call('SADD', K.queues, K.queue .. queue)
  return type(length) == 'number'
end

-- A job that is on its way must be somewhere: claim looks into this list, too.
local function push(queue, id, front)
  if not place(queue, id, front) then
    redis.call(front and 'LPUSH' or 'RPUSH', K.ready .. queue, id)
  end
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

local ENDED = {finished = true, failed = true, canceled = true, stopped = true}

-- Whether a job with this id may be written: there is none, or one that ended,
-- which is removed.
local function make_room(id, status, queue)
  if not status then return true end
  if not ENDED[status] then return false end
  redis.call('DEL', K.job .. id, K.results .. id)
  redis.call('ZREM', K.finished .. queue, id)
  redis.call('ZREM', K.failed .. queue, id)
  redis.call('ZREM', K.canceled .. queue, id)
  return true
end

-- returns false where its queue's key holds something that is no queue
local function write_job(job)
  local at = stamp(now)
  local waits = job.due and job.due > now
  -- Placed first: a hash without a place would stay for ever.
  if waits then
    schedule(job.queue, job.id, job.due)
  elseif not place(job.queue, job.id, job.front) then
    return false
  end
  local fields = extend(job.fields, {
    'created_at', at, 'origin', job.queue, 'status', waits and 'scheduled' or 'queued',
  })
  if not waits then extend(fields, {'enqueued_at', at}) end
  if job.due then extend(fields, {'tq_eta', seconds(job.due)}) end
  if job.expires then extend(fields, {'tq_expires', seconds(job.expires)}) end
  if job.front then extend(fields, {'enqueue_at_front', '1'}) end
  redis.call('HSET', K.job .. job.id, unpack(fields))
  return true
end
