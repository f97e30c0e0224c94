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
-- scratch: a key for the original, which the caller deletes.
local function add_result(id, scratch, ...)
  local key = K.results .. id
  redis.call('XADD', scratch, '*', ...)
  if redis.call('COPY', scratch, key) == 1 then return end
  local added = redis.pcall('XADD', key, 'MAXLEN', '~', '10', '*', ...)
  -- Something else was there.
  if type(added) == 'table' then redis.call('COPY', scratch, key, 'REPLACE') end
end

-- RQ's Job.dependencies_are_met for one dependent of a job that just ended.
local function is_met(dependent, parent, parent_status, allow_failure)
  if parent_status == 'canceled' or parent_status == 'stopped' then return false end
  if parent_status == 'failed' and not allow_failure then return false end
  local others = redis.pcall('SMEMBERS',
    K.dependencies_prefix .. dependent .. K.dependencies_suffix)
  if others.err then return false end
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
  local page = redis.pcall('SSCAN', key, cursor, 'COUNT', '100')
  if page.err then return '0' end
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
local function follow_up(ended, ttl)
  local id, status = ended.id, ended.status
  local cursor = release_dependents(id, status, '0')
  if cursor ~= '0' then redis.call('HSET', K.followups, id, cursor .. ' ' .. status) end
  if ttl then
    redis.call('EXPIRE', K.job .. id .. K.dependents_suffix, ttl)
    redis.call('EXPIRE', K.dependencies_prefix .. id .. K.dependencies_suffix, ttl)
  end
end

-- What an end writes that is the job's alone. returns its TTL and the score in the
-- registry; nothing where somebody put something else into its hash's place
local function write_end(ended, at, scratch)
  local id, status, fields, entry = ended.id, ended.status, ended.fields, ended.entry
  local key = K.job .. id
  local row = redis.pcall('HMGET', key, TTL_FIELD[status], 'started_at')
  if row.err then return nil, seconds(now + 86400) end
  -- RQ empties ended_at when it requeues a job: tq_ended still tells claim.
  if row[2] == '' and fields[1] == 'tq_runtime' then
    -- It was claimed ahead, and so short that nobody wrote when it was started.
    redis.call('HSET', key, 'status', status, 'ended_at', at, 'last_heartbeat', at,
      'tq_ended', '1', 'started_at', stamp(now - number(fields[2], 0)), unpack(fields))
  else
    redis.call('HSET', key, 'status', status, 'ended_at', at, 'last_heartbeat', at,
      'tq_ended', '1', unpack(fields))
  end
  -- RQ has a type of its own for a returned Retry too many: the caller names it.
  if entry[1] == 'type' then
    add_result(id, scratch, unpack(entry))
  else
    add_result(id, scratch, 'type', TYPE[status], unpack(entry))
  end
  local ttl = number(row[1], TTL_DEFAULT[status])
  if ttl < 0 then
    redis.call('PERSIST', key)
    redis.call('PERSIST', K.results .. id)
    return false, '+inf'
  end
  ttl = math.min(math.max(math.floor(ttl), TTL_LEAST), TTL_MOST)
  redis.call('EXPIRE', key, ttl)
  redis.call('EXPIRE', K.results .. id, ttl)
  return ttl, seconds(now + ttl)
end

-- Every end takes out up to two that expired, so that registries do not grow.
local function register(registries)
  for registry, members in pairs(registries) do
    redis.pcall('ZADD', registry, unpack(members))
    -- Where something else has its key, the jobs are only not in it.
    local gone = redis.pcall('ZRANGE', registry, 0, '(' .. seconds(now), 'BYSCORE',
      'LIMIT', 0, #members)
    if #gone > 0 then redis.call('ZREM', registry, unpack(gone)) end
  end
end

-- End jobs: status, result entry, registry, TTLs, dependents. What one command can do
-- for all of them is done by one.
-- ends: id, queue, status, fields (more pairs for the hash), entry (more pairs for the
-- stream) of each
local function end_jobs(ends)
  local at = stamp(now)
  local registries, scratches, relations, ttls = {}, {}, {}, {}
  for i, ended in ipairs(ends) do
    scratches[i] = K.scratch .. i
    local ttl, score = write_end(ended, at, scratches[i])
    local registry = REGISTRY[ended.status] .. ended.queue
    registries[registry] = extend(registries[registry] or {}, {score, ended.id})
    ttls[i] = ttl
    if ttl ~= nil then
      extend(relations, {K.job .. ended.id .. K.dependents_suffix,
        K.dependencies_prefix .. ended.id .. K.dependencies_suffix})
    end
  end
  redis.call('DEL', unpack(scratches))
  register(registries)
  if #relations > 0 and redis.call('EXISTS', unpack(relations)) > 0 then
    for i, ended in ipairs(ends) do
      if ttls[i] ~= nil then follow_up(ended, ttls[i]) end
    end
  end
  for i, ended in ipairs(ends) do
    if ttls[i] ~= nil then tell(ended.id) end
  end
end

local function end_job(id, queue, status, fields, entry)
  end_jobs({{id = id, queue = queue, status = status, fields = fields, entry = entry}})
end

local function error_text(kind, message)
  return cjson.encode({
    type = kind, module = 'flask_taskqueue.errors', qualname = kind, message = message,
    args = {message},
  })
end

-- It may be met in a queue that it is no longer of: it ends there, and is found there.
local function end_revoked(id, queue, message)
  end_job(id, queue, 'canceled', {
    'origin', queue, 'tq_error', error_text('TaskRevokedError', message)}, {})
end

local function end_lost(id, queue, message, recoveries)
  end_job(id, queue, 'failed', {
    'tq_recoveries', recoveries, 'tq_error', error_text('WorkerLostError', message)}, {})
end

-- Longer than most jobs are kept; what nobody takes goes with its key.
local AFTERMATH_KEPT = 604800

-- The process that ran it is dead: a free slot calls its hooks. Once it ended.
local function leave_aftermath(id, queue, execution)
  local key = K.aftermath_of .. queue
  -- Somebody put something else there: nothing is known of the job.
  if type(redis.pcall('HSET', K.job .. id, 'tq_aftermath', '0')) == 'table' then return end
  redis.call('ZADD', key, seconds(now), id .. ':' .. execution)
  redis.call('EXPIRE', key, AFTERMATH_KEPT)
  redis.call('SADD', K.aftermath, queue)
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
    leave_aftermath(id, queue, execution)
    return 'revoked'
  end
  if started and row[3] == 'fail' then
    end_lost(id, queue, 'the worker was stopped', number(row[4], 0))
    leave_aftermath(id, queue, execution)
    return 'failed'
  end
  to_front(id, queue)
  return 'given'
end

-- A recovery older than this does not count towards the cap.
local RECOVERY_WINDOW = 259200

-- Give a job whose worker was lost to another one, or end it. The caller took the
-- lease. ran: its function is known to have been called. Otherwise the time of its
-- start says so: one that was claimed ahead has none.
-- returns 'requeued', 'given' (not charged), 'failed', 'revoked' or 'gone'
local function recover_job(id, queue, execution, reason, ran)
  drop_execution(id, execution)
  local row = redis.pcall('HMGET', K.job .. id, 'status', 'tq_revoked', 'tq_on_lost',
    'tq_recoveries', 'tq_max_recoveries', 'tq_recovered_at', 'started_at')
  if row.err or row[1] ~= 'started' then return 'gone' end
  if row[2] then
    end_revoked(id, queue, 'revoked')
    leave_aftermath(id, queue, execution)
    return 'revoked'
  end
  if not ran and row[7] == '' then
    to_front(id, queue)
    return 'given'
  end
  local recoveries, cap = number(row[4], 0), number(row[5], 3)
  if now - number(row[6], now) > RECOVERY_WINDOW then recoveries = 0 end
  if row[3] == 'fail' or recoveries >= cap then
    local text = 'worker lost while the job ran: ' .. reason
    if row[3] ~= 'fail' then
      text = text .. ' (' .. (recoveries + 1) .. ' times, max_recoveries is ' .. cap .. ')'
    end
    end_lost(id, queue, text, recoveries + 1)
    leave_aftermath(id, queue, execution)
    return 'failed'
  end
  redis.call('HSET', K.job .. id, 'tq_recoveries', recoveries + 1,
    'tq_recovered_at', seconds(now))
  to_front(id, queue)
  return 'requeued'
end
