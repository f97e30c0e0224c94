-- Give a job that ended a new life. Needs clock, args, queueing, telling.

-- nonce: of the call, so that its repetition finds what it did.
-- returns 1 it waits again, 2 it has not ended, 0 there is no such job, -1 the key
-- holds something that is no job
local function requeue(id, nonce)
  local key = K.job .. id
  local row = redis.pcall('HMGET', key, 'status', 'origin', 'tq_forgotten', 'tq_nonce',
    'retries_left', 'tq_retries', 'tq_entry')
  if row.err then return -1 end
  local status, queue = row[1], row[2]
  if not status or row[3] or row[7] then return 0 end
  if row[4] == nonce then return 1 end
  if not ENDED[status] then return 2 end
  if not queue or queue == '' then return -1 end
  redis.call('ZREM', K.finished .. queue, id)
  redis.call('ZREM', K.failed .. queue, id)
  redis.call('ZREM', K.canceled .. queue, id)
  -- Of a plain rq job's attempts each took one from those that are left.
  local left, retries = tonumber(row[5] or ''), tonumber(row[6] or '')
  if left and retries then
    redis.call('HSET', key, 'retries_left', string.format('%d', left + retries))
  end
  -- What ran late once must not be too late at once; claim sets its counts back
  -- where it finds tq_ended.
  redis.call('HDEL', key, 'tq_expires', 'tq_eta', 'tq_retries')
  redis.call('HSET', key, 'status', 'queued', 'enqueued_at', stamp(now), 'started_at', '',
    'ended_at', '', 'worker_name', '', 'tq_ended', '1', 'tq_nonce', nonce)
  redis.call('PERSIST', key)
  redis.call('PERSIST', key .. K.dependents_suffix)
  redis.call('PERSIST', K.dependencies_prefix .. id .. K.dependencies_suffix)
  push(queue, id, false)
  tell(id)
  return 1
end
