-- Entries of beat: their next times, and what became of their firings. Needs clock.
--
-- An entry's next time is its score in rq-scheduler's set. The app's own set is an
-- index to find those that are due. A key that all entries share and that holds
-- something else is an error of the call, before anything is written.

local ROWS_KEPT = 100
-- Seconds that a one-off made at run time is kept after it fired, to be looked at.
local OVER_KEPT = 604800

-- rq-scheduler writes a time stamp into its lock: this tells ours from it.
local OURS = 'flask-taskqueue'
-- Seconds: a beat may be away for so long before a plain rqscheduler meets its entries.
local OURS_KEPT = 600

-- Wake the beats: they read again what changed. As in lib/telling.lua, a user of the
-- server that may not publish must not abort a script half-way.
local function tell_entries(app)
  redis.pcall('PUBLISH', K.entries_changed, app)
end

-- Whether two texts say the same instant; '' is none.
local function is_same(a, b)
  return a == b or tonumber(a) ~= nil and tonumber(a) == tonumber(b)
end

-- Hold rq-scheduler's lock: it skips its passes then.
-- steal: take it from a running rq-scheduler, too; returns whether one had it
local function hold_pass(steal)
  local holder = redis.pcall('GET', K.scheduler_pass)
  local foreign = holder and holder ~= OURS
  if steal or not foreign then
    redis.call('SET', K.scheduler_pass, OURS, 'EX', OURS_KEPT)
  end
  return foreign
end

-- returns the next time, or false, and the same as the index has it
local function times(app, id)
  return redis.call('ZSCORE', K.scheduler_set, id), redis.call('ZSCORE', K.due .. app, id)
end

-- at: epoch seconds; '' where it has no next time. The caller has called times(), which
-- raises where a shared key holds something else, before anything is written.
local function set_due(app, id, at)
  if at == '' then
    redis.call('ZREM', K.scheduler_set, id)
    redis.call('ZREM', K.due .. app, id)
  else
    redis.call('ZADD', K.scheduler_set, at, id)
    redis.call('ZADD', K.due .. app, at, id)
    redis.call('HSET', K.entry .. id, 'due', at)
  end
end

-- Forget an entry that is in the index, but no longer in the set. Returns whether it was
-- cancelled: neither paused nor over, it can only have been taken out by rq-scheduler's
-- API.
local function drop_lost(app, id, paused, ended)
  redis.call('ZREM', K.due .. app, id)
  if paused or ended then return false end
  redis.call('HSET', K.entry .. id, 'cancelled', '1')
  return true
end

-- By pcall: the history is only for people. A key of another type must not keep a job
-- from being enqueued.
-- what: fired, skipped, triggered; job: its id, or '-'.
local function add_row(id, due, job, what)
  local row = seconds(due) .. ' ' .. seconds(now) .. ' ' .. job .. ' ' .. what
  redis.pcall('LPUSH', K.firings .. id, row)
  redis.pcall('LTRIM', K.firings .. id, 0, ROWS_KEPT - 1)
end

-- count: as stored, whatever was written there.
local function note_job(id, count, job)
  redis.call('HSET', K.entry .. id, 'last_at', seconds(now), 'last_job', job,
    'count', string.format('%d', (tonumber(count or '') or 0) + 1))
end

-- It is kept until it is removed, also where it was over and about to expire.
local function keep(app, id)
  redis.call('SADD', K.entries .. app, id)
  for _, key in ipairs({K.entry .. id, K.firings .. id, K.job .. id}) do
    redis.call('PERSIST', key)
  end
end

-- It is never due again. What the code declares stays until it leaves the code.
local function end_entry(app, id)
  redis.call('HSET', K.entry .. id, 'ended', '1')
  if redis.call('HGET', K.entry .. id, 'source') ~= 'run' then return end
  redis.call('SREM', K.entries .. app, id)
  for _, key in ipairs({K.entry .. id, K.firings .. id, K.job .. id}) do
    redis.call('EXPIRE', key, OVER_KEPT)
  end
end

-- The hash that rq-scheduler shows for an entry; a job of this id is none.
-- returns true, false where there is none, nil where the key holds something else
local function has_mirror(id)
  local row = redis.pcall('HMGET', K.job .. id, 'tq_entry', 'status')
  if row[1] then return true end
  if row.err or row[2] then return nil end
  return false
end

local function erase(app, id)
  set_due(app, id, '')
  redis.call('SREM', K.entries .. app, id)
  redis.call('DEL', K.entry .. id, K.firings .. id)
  if has_mirror(id) then redis.call('DEL', K.job .. id) end
end
