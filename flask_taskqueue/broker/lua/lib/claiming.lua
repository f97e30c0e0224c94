-- Take the next job that may run. Needs clock, args, queueing, telling, leases, ending.

local DEAD_PER_CALL = 100
local ID_MOST = 1000
local STATUSES = {
  created = true, queued = true, finished = true, failed = true, started = true,
  deferred = true, scheduled = true, stopped = true, canceled = true,
}

-- How a call to claim is given: worker, execution id, lease in seconds,
-- 1 = this call is repeated after a lost reply, counted list of queues.
local function read_claim()
  return {
    worker = arg(), execution = arg(), lease = count(), again = arg() == '1',
    queues = list(),
  }
end

-- A job that cannot run, kept for a look.
local function quarantine(id, queue, reason)
  if redis.call('TYPE', K.job .. id).ok == 'hash' then
    end_job(id, queue, 'failed', {'tq_error', error_text('DecodeError', reason)}, {})
  else
    redis.call('ZADD', K.failed .. queue, seconds(now + 31536000), id)
  end
  return {'quarantined', id, queue, reason}
end

-- Why an id from a queue is not run: a note for the worker's log, false where
-- the entry is only stale, nil where it may run.
local function refusal(id, queue, row)
  if row.err then return quarantine(id, queue, 'the job is not stored as a hash') end
  local status, execution, expires = row[1], row[2], tonumber(row[3] or '')
  local ended = row[4] or row[5] and row[5] ~= ''
  -- What rq-scheduler shows for an entry of beat is no job.
  if row[7] then return false end
  if not status then
    if redis.call('EXISTS', K.job .. id) == 0 then return false end
    return quarantine(id, queue, 'the job has no status')
  end
  if not STATUSES[status] then
    return quarantine(id, queue, 'the job has an unknown status')
  end
  if #id > ID_MOST or string.find(id, '[^\33-\126]') then
    return quarantine(id, queue, 'the id is too long, or not in printable characters')
  end
  if status ~= 'queued' then return false end
  if execution and redis.call('ZSCORE', K.wip .. queue, id .. ':' .. execution) then
    return false
  end
  -- Of a job that had ended and was requeued the mark is an old one.
  if row[6] and not ended then
    end_revoked(id, queue, 'revoked')
    return {'revoked', id, queue, ''}
  end
  if expires and expires <= now then
    end_revoked(id, queue, 'expired')
    return {'expired', id, queue, ''}
  end
end

local function start(id, queue, row, call)
  local key = K.job .. id
  local at = stamp(now)
  redis.call('PERSIST', key)
  if row[4] or row[5] and row[5] ~= '' then
    -- It had ended and somebody requeued it: a new life with full counts.
    redis.call('HDEL', key, 'tq_ended', 'tq_retries', 'tq_recoveries', 'tq_recovered_at',
      'tq_error', 'tq_state', 'tq_info', 'tq_sig_info', 'tq_revoked', 'tq_children',
      'tq_ignored')
    redis.call('HSET', key, 'ended_at', '')
  end
  redis.call('HSET', key, 'status', 'started', 'started_at', at, 'last_heartbeat', at,
    'worker_name', call.worker, 'tq_execution', call.execution, 'origin', queue)
  redis.call('ZADD', K.wip .. queue, seconds(now + call.lease + 86400),
    id .. ':' .. call.execution)
  tell(id)
  return {id, queue, redis.call('HGETALL', key)}
end

-- The job an earlier, unanswered call of this execution id claimed.
local function claimed_before(call)
  local suffix = ':' .. call.execution
  for _, queue in ipairs(call.queues) do
    for _, member in ipairs(redis.call('ZRANGE', K.wip .. queue, 0, -1)) do
      if string.sub(member, -#suffix) == suffix then
        local id = string.sub(member, 1, -#suffix - 1)
        local row = redis.pcall('HGETALL', K.job .. id)
        if not row.err then return {id, queue, row} end
      end
    end
  end
end

-- A queue key of another type is an empty queue here, not an aborted script.
local function pop(key)
  local id = redis.pcall('LPOP', key)
  return type(id) == 'string' and id or nil
end

-- Seconds a slot has for what is to run after a job that was killed.
local AFTERMATH_LEASE = 90

-- A job that was killed and has a callback left to run. Nobody else gets it while
-- this slot has time for it; if the slot dies, somebody does.
local function aftermath()
  local id = redis.call('ZRANGE', K.aftermath, '-inf', seconds(now), 'BYSCORE',
    'LIMIT', 0, 1)[1]
  if not id then return nil end
  redis.call('ZADD', K.aftermath, seconds(now + AFTERMATH_LEASE), id)
  return {'aftermath', id, '', ''}
end

-- returns job or false, 1 = call again (more is there) or 2 = held back (a queue is
-- paused, or all are suspended), notes
local function claim(call)
  local notes = {}
  if call.again then
    local job = claimed_before(call)
    if job then return job, 0, notes end
  end
  if redis.call('EXISTS', K.suspended) == 1 then return false, 2, notes end
  local paused = redis.call('SCARD', K.paused) > 0
  local dead = 0
  for _, queue in ipairs(call.queues) do
    if not (paused and redis.call('SISMEMBER', K.paused, queue) == 1) then
      while true do
        local id = pop(K.ready .. queue) or pop(K.queue .. queue)
        if not id then break end
        local row = redis.pcall('HMGET', K.job .. id, 'status', 'tq_execution',
          'tq_expires', 'tq_ended', 'ended_at', 'tq_revoked', 'tq_entry')
        local note = refusal(id, queue, row)
        if note == nil then return start(id, queue, row, call), 0, notes end
        if note then notes[#notes + 1] = note end
        dead = dead + 1
        if dead == DEAD_PER_CALL then return false, 1, notes end
      end
    end
  end
  local left = aftermath()
  if left then
    notes[#notes + 1] = left
    return false, 1, notes
  end
  return false, paused and 2 or 0, notes
end
