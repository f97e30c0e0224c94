-- The end of a job, whatever the reason, and giving one back.
-- Needs clock, args, telling, leases.

-- What belongs to a status: RQ's type of result, the registry, the field with the TTL, and
-- RQ's default where a job of a plain rq producer has none.
local function kind_of(status)
  if status == 'finished' then return '1', K.finished, 'result_ttl', 500 end
  if status == 'failed' then return '2', K.failed, 'failure_ttl', 31536000 end
  if status == 'stopped' then return '3', K.failed, 'failure_ttl', 31536000 end
  return '3', K.canceled, 'result_ttl', 86400
end

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

-- What an end writes into the hash.
local function write_fields(ended, key, at, started_at)
  local status, fields = ended.status, ended.fields or {}
  if ended.worker then
    extend(fields, {'tq_runtime', ended.seconds})
    -- It was claimed ahead, and so short that nobody wrote when it started.
    if started_at == '' then
      extend(fields, {'started_at', stamp(now - number(ended.seconds, 0))})
    end
  end
  redis.call('HSET', key, 'status', status, 'ended_at', at, 'last_heartbeat', at,
    'tq_ended', '1', unpack(fields))
end

-- The entry of its result stream (rq 2.12, Result.serialize).
local function write_result(ended, kind, scratch)
  local id, entry = ended.id, ended.entry
  if not ended.worker then
    add_result(id, scratch, 'type', kind, unpack(entry))
    return
  end
  add_result(id, scratch, 'type', ended.kind, 'worker_name', ended.worker,
    'execution_id', ended.execution, 'execution_started_at', ended.began,
    'execution_ended_at', ended.over, unpack(entry))
end

-- What an end writes that is the job's alone. returns its registry and the score in it,
-- and its TTL: none where somebody put something else into its hash's place
local function write_end(ended, at, scratch)
  local id = ended.id
  local key = K.job .. id
  local kind, registry, ttl_field, ttl_default = kind_of(ended.status)
  registry = registry .. ended.queue
  -- As they are now: it may have been forgotten, or written as started, while it ran.
  local row = redis.pcall('HMGET', key, ttl_field, 'started_at')
  if row.err then return registry, seconds(now + 86400) end
  write_fields(ended, key, at, row[2])
  write_result(ended, kind, scratch)
  local ttl = number(row[1], ttl_default)
  if ttl < 0 then
    redis.call('PERSIST', key)
    redis.call('PERSIST', K.results .. id)
    return registry, '+inf', false
  end
  ttl = math.min(math.max(math.floor(ttl), TTL_LEAST), TTL_MOST)
  redis.call('EXPIRE', key, ttl)
  redis.call('EXPIRE', K.results .. id, ttl)
  return registry, seconds(now + ttl), ttl
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

-- Few jobs have relations: what sees to those is made where one has.
local function follow_up_all(ends, ttls)
-- include: queueing dependents
  for i, ended in ipairs(ends) do
    if ttls[i] ~= nil then follow_up(ended, ttls[i]) end
  end
end

-- End jobs: status, result entry, registry, TTLs, dependents. What one command can do
-- for all of them is done by one.
-- ends: of each id, queue, status, entry (more pairs for the stream), and where there are
-- some fields (more pairs for the hash); and of one that a worker gives what it knows of
-- the execution: execution, worker, kind, seconds, began, over (lib/storing.lua)
local function end_jobs(ends)
  local at = stamp(now)
  local registries, scratches, relations, ttls = {}, {}, {}, {}
  for i, ended in ipairs(ends) do
    scratches[i] = K.scratch .. i
    local registry, score, ttl = write_end(ended, at, scratches[i])
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
    follow_up_all(ends, ttls)
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
