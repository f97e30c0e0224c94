-- The end of a job, whatever the reason, and giving one back.
-- Needs clock, args, queueing.

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

-- The right to end an execution: 1 once, 0 for everyone after.
local function take_lease(id, queue, execution)
  return redis.call('ZREM', K.wip .. queue, id .. ':' .. execution) == 1
end

local function drop_execution(id, execution)
  redis.call('DEL', K.execution .. id .. ':' .. execution, K.executions .. id)
end

-- A stream made by XADD keeps 4 KB preallocated, a copy of it does not.
local function add_result(id, entry)
  local key = K.results .. id
  if redis.call('EXISTS', key) == 1 then
    redis.call('XADD', key, 'MAXLEN', '~', '10', '*', unpack(entry))
    return
  end
  redis.call('XADD', K.scratch, '*', unpack(entry))
  redis.call('COPY', K.scratch, key)
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
      local status = redis.call('HGET', K.job .. other, 'status')
      if status and status ~= 'finished' and not (status == 'failed' and allow_failure) then
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
    local row = redis.call('HMGET', K.job .. dependent,
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

local function follow_up(id, status)
  if redis.call('EXISTS', K.job .. id .. K.dependents_suffix) == 0 then return end
  local cursor = release_dependents(id, status, '0')
  if cursor ~= '0' then redis.call('HSET', K.followups, id, cursor .. ' ' .. status) end
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
  local ttl = tonumber(stored or '') or TTL_DEFAULT[status]
  local at = stamp(now)
  redis.call('HSET', key, unpack(extend(
    {'status', status, 'ended_at', at, 'last_heartbeat', at}, fields)))
  -- RQ has a type of its own for a returned Retry too many: the caller names it.
  if entry[1] ~= 'type' then entry = extend({'type', TYPE[status]}, entry) end
  add_result(id, entry)
  local registry = REGISTRY[status] .. queue
  if ttl < 0 then
    redis.call('PERSIST', key)
    redis.call('ZADD', registry, '+inf', id)
  else
    ttl = math.max(math.floor(ttl), TTL_LEAST)
    redis.call('EXPIRE', key, ttl)
    redis.call('EXPIRE', K.results .. id, ttl)
    redis.call('ZADD', registry, seconds(now + ttl), id)
  end
  -- Every end takes out up to two that expired, so that registries do not grow.
  local gone = redis.call('ZRANGE', registry, '-inf', '(' .. seconds(now), 'BYSCORE',
    'LIMIT', 0, 2)
  if #gone > 0 then redis.call('ZREM', registry, unpack(gone)) end
  follow_up(id, status)
end

local function error_text(kind, message)
  return cjson.encode({
    type = kind, module = 'flask_taskqueue.errors', qualname = kind, message = message,
    args = {message},
  })
end

-- Back to the front of its queue: no attempt, no recovery.
local function give_back(id, queue)
  if redis.call('TYPE', K.job .. id).ok ~= 'hash' then return end
  redis.call('HDEL', K.job .. id, 'tq_state', 'tq_info', 'tq_sig_info')
  redis.call('HSET', K.job .. id, 'status', 'queued', 'started_at', '', 'worker_name', '')
  push(queue, id, true)
end

-- A recovery older than this does not count towards the cap.
local RECOVERY_WINDOW = 259200

-- Give a job whose worker was lost to another one, or end it.
-- The caller took the lease. Returns 'requeued', 'failed', 'revoked' or 'gone'.
local function recover_job(id, queue, execution, reason)
  drop_execution(id, execution)
  local row = redis.pcall('HMGET', K.job .. id, 'status', 'tq_revoked', 'tq_on_lost',
    'tq_recoveries', 'tq_max_recoveries', 'tq_recovered_at')
  if row.err or row[1] ~= 'started' then return 'gone' end
  if row[2] then
    end_job(id, queue, 'canceled',
      {'tq_error', error_text('TaskRevokedError', 'revoked')}, {})
    return 'revoked'
  end
  local recoveries = tonumber(row[4] or '') or 0
  if now - (tonumber(row[6] or '') or now) > RECOVERY_WINDOW then recoveries = 0 end
  local cap = tonumber(row[5] or '') or 3
  if row[3] == 'fail' or recoveries >= cap then
    local text = 'worker lost while the job ran: ' .. reason
    if row[3] ~= 'fail' then
      text = text .. ' (' .. (recoveries + 1) .. ' times, max_recoveries is ' .. cap .. ')'
    end
    end_job(id, queue, 'failed', {
      'tq_recoveries', recoveries + 1, 'tq_error', error_text('WorkerLostError', text)}, {})
    return 'failed'
  end
  redis.call('HSET', K.job .. id, 'tq_recoveries', recoveries + 1,
    'tq_recovered_at', seconds(now))
  give_back(id, queue)
  return 'requeued'
end
