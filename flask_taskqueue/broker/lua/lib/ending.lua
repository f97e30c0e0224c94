-- The end of a job, whatever the reason, and giving one back.
-- Needs clock, args, queueing, telling, leases.

local TYPE = {finished = '1', failed = '2', stopped = '3', canceled = '3'}
local REGISTRY = {
  finished = K.finished, failed = K.failed, stopped = K.failed, canceled = K.canceled,
}
local TTL_FIELD = {
  finished = 'result_ttl', failed = 'failure_ttl', stopped = 'failure_ttl',
  canceled = 'result_ttl',
}
-- Where a job of a plain rq producer has none: RQ's defaults.
local TTL_DEFAULT = {finished = 500, failed = 31536000, stopped = 31536000, canceled = 86400}
-- No hash goes sooner after its end, so that a repeated call finds it.
local TTL_LEAST = 60
local TTL_MOST = 3e9

-- A number from a hash, whatever was written there.
local function number(text, default)
  local value = tonumber(text or '')
  return value and value == value and value or default
end

-- A stream made by XADD keeps 4 KB preallocated, a copy of it does not.
local function add_result(id, entry)
  local key = K.results .. id
  if redis.call('TYPE', key).ok == 'stream' then
    redis.call('XADD', key, 'MAXLEN', '~', '10', '*', unpack(entry))
    return
  end
  redis.call('XADD', K.scratch, '*', unpack(entry))
  redis.call('COPY', K.scratch, key, 'REPLACE')
  redis.call('DEL', K.scratch)
end

-- RQ's Job.dependencies_are_met for one dependent of a job that just ended.
local function is_met(dependent, parent, parent_status, allow_failure)
  if parent_status == 'canceled' or parent_status == 'stopped' then return false end
  if parent_status == 'failed' and not allow_failure then return false end
  local others = redis.call('SMEMBERS',
    K.dependencies_prefix .. dependent .. K.dependencies_suffix)
  for _, other in ipairs(others) do
    if other ~= parent then
      local status = redis.pcall('HGET', K.job .. other, 'status')
      if type(status) == 'string' and status ~= 'finished' and not (status == 'failed' and allow_failure) then
        return false
      end
    end
  end
  return true
end

-- Look at about 100 dependents from a SSCAN cursor on; returns the next cursor.
local function release_dependents(id, status, cursor)
  local key = K.job .. id .. K.dependents_suffix
  local page = redis.call('SSCAN', key, cursor, 'COUNT', '100')
  for _, dependent in ipairs(page[2]) do
    local row = redis.pcall('HMGET', K.job .. dependent,
      'status', 'origin', 'allow_dependency_failures', 'enqueue_at_front')
    local queue = row[2]
    if row[1] == 'deferred' and queue and is_met(dependent, id, status, row[3] == '1') then
      redis.call('SREM', key, dependent)
      redis.call('ZREM', K.deferred .. queue, dependent)
      redis.call('HSET', K.job .. dependent, 'status', 'queued', 'enqueued_at', stamp(now))
      push(queue, dependent, row[4] == '1')
    end
  end
  return page[1]
end

-- ttl: of the job, or nil; what is known of its relations goes with it.
local function follow_up(id, status, ttl)
  local dependents = K.job .. id .. K.dependents_suffix
  local dependencies = K.dependencies_prefix .. id .. K.dependencies_suffix
  if redis.call('EXISTS', dependents, dependencies) == 0 then return end
  local cursor = release_dependents(id, status, '0')
  if cursor ~= '0' then redis.call('HSET', K.followups, id, cursor .. ' ' .. status) end
  if ttl then
    redis.call('EXPIRE', dependents, ttl)
    redis.call('EXPIRE', dependencies, ttl)
  end
end

-- End a job: status, result entry, registry, TTLs, dependents.
-- fields: more pairs for the hash; entry: more pairs for the stream.
local function end_job(id, queue, status, fields, entry)
  local key = K.job .. id
  local stored = redis.pcall('HGET', key, TTL_FIELD[status])
  if type(stored) == 'table' then
    -- Somebody put something else there: only the registry can say what became of it.
    redis.call('ZADD', REGISTRY[status] .. queue, seconds(now + 86400), id)
    return
  end
  local ttl = number(stored, TTL_DEFAULT[status])
  local at = stamp(now)
  -- RQ empties ended_at when it requeues a job: tq_ended still tells claim.
  redis.call('HSET', key, unpack(extend(
    {'status', status, 'ended_at', at, 'last_heartbeat', at, 'tq_ended', '1'}, fields)))
  -- RQ has a type of its own for a returned Retry too many: the caller names it.
  if entry[1] ~= 'type' then entry = extend({'type', TYPE[status]}, entry) end
  add_result(id, entry)
  local registry = REGISTRY[status] .. queue
  if ttl < 0 then
    redis.call('PERSIST', key)
    redis.call('PERSIST', K.results .. id)
    redis.call('ZADD', registry, '+inf', id)
  else
    ttl = math.min(math.max(math.floor(ttl), TTL_LEAST), TTL_MOST)
    redis.call('EXPIRE', key, ttl)
    redis.call('EXPIRE', K.results .. id, ttl)
    redis.call('ZADD', registry, seconds(now + ttl), id)
  end
  -- Every end takes out up to two that expired, so that registries do not grow.
  local gone = redis.call('ZRANGE', registry, 0, '(' .. seconds(now), 'BYSCORE',
    'LIMIT', 0, 2)
  if #gone > 0 then redis.call('ZREM', registry, unpack(gone)) end
  if status == 'stopped' and redis.call('HSTRLEN', key, 'stopped_callback_name') > 0 then
    -- The process that ran it is dead: a free slot runs the callback.
    redis.call('ZADD', K.aftermath, seconds(now), id)
  end
  follow_up(id, status, ttl >= 0 and ttl)
  tell(id)
end

local function error_text(kind, message)
  return cjson.encode({
    type = kind, module = 'flask_taskqueue.errors', qualname = kind, message = message,
    args = {message},
  })
end

local function end_revoked(id, queue, message)
  end_job(id, queue, 'canceled', {'tq_error', error_text('TaskRevokedError', message)}, {})
end

local function end_lost(id, queue, message, recoveries)
  end_job(id, queue, 'failed', {
    'tq_recoveries', recoveries, 'tq_error', error_text('WorkerLostError', message)}, {})
end

local function to_front(id, queue)
  redis.call('HDEL', K.job .. id, 'tq_state', 'tq_info', 'tq_sig_info')
  redis.call('HSET', K.job .. id, 'status', 'queued', 'started_at', '', 'worker_name', '')
  push(queue, id, true)
  tell(id)
end

-- Back to the front of its queue: no attempt, no recovery. The caller took the
-- lease. started: its function had been called.
-- returns 'given', 'revoked', 'failed' (started, and on_worker_lost is "fail"), or
-- 'gone'
local function give_back(id, queue, execution, started)
  drop_execution(id, execution)
  local row = redis.pcall('HMGET', K.job .. id, 'status', 'tq_revoked', 'tq_on_lost',
    'tq_recoveries')
  if row.err or row[1] ~= 'started' then return 'gone' end
  if row[2] then
    end_revoked(id, queue, 'revoked')
    return 'revoked'
  end
  if started and row[3] == 'fail' then
    end_lost(id, queue, 'the worker was stopped', number(row[4], 0))
    return 'failed'
  end
  to_front(id, queue)
  return 'given'
end

-- A recovery older than this does not count towards the cap.
local RECOVERY_WINDOW = 259200

-- Give a job whose worker was lost to another one, or end it. The caller took the
-- lease. returns 'requeued', 'failed', 'revoked' or 'gone'
local function recover_job(id, queue, execution, reason)
  drop_execution(id, execution)
  local row = redis.pcall('HMGET', K.job .. id, 'status', 'tq_revoked', 'tq_on_lost',
    'tq_recoveries', 'tq_max_recoveries', 'tq_recovered_at')
  if row.err or row[1] ~= 'started' then return 'gone' end
  if row[2] then
    end_revoked(id, queue, 'revoked')
    return 'revoked'
  end
  local recoveries, cap = number(row[4], 0), number(row[5], 3)
  if now - number(row[6], now) > RECOVERY_WINDOW then recoveries = 0 end
  if row[3] == 'fail' or recoveries >= cap then
    local text = 'worker lost while the job ran: ' .. reason
    if row[3] ~= 'fail' then
      text = text .. ' (' .. (recoveries + 1) .. ' times, max_recoveries is ' .. cap .. ')'
    end
    end_lost(id, queue, text, recoveries + 1)
    return 'failed'
  end
  redis.call('HSET', K.job .. id, 'tq_recoveries', recoveries + 1,
    'tq_recovered_at', seconds(now))
  to_front(id, queue)
  return 'requeued'
end
