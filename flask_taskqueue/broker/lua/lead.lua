#!lua flags=allow-oom
-- include: clock args entries
-- Look after an app's entries, or learn who does: which are due.
--
-- KEYS  none (they follow from the app)
-- ARGV  app, name of the beat that asks, seconds it leads for, most entries to name
-- returns  {1 = it leads, milliseconds until another's lead ends, the server's time,
--          due, seconds until the next one is due ('' none, '0' more are due), number
--          of entries, 1 = rq-scheduler held its lock, ids found cancelled, 1 = the code's
--          entries are written}; due: list of {id, next time, fingerprint}, of which the
--          last is '' where the record's key holds something else
--
-- Who leads only decides who looks: tick.lua decides what is fired.

local app, beat, lease, most = arg(), arg(), math.ceil(count() * 1000), count()
local known = redis.call('SCARD', K.entries .. app)
local index = K.due .. app
local synced = redis.pcall('GET', K.synced .. app) == 'done' and 1 or 0

local owner = redis.pcall('GET', K.lead .. app)
if type(owner) == 'string' and owner ~= beat then
  local left = redis.call('PTTL', K.lead .. app)
  -- A lead without an end was written by somebody else; one that ends later than any
  -- lease allows is from before the clock was set back. Neither counts.
  if left >= 0 and left <= lease then
    return {0, left, seconds(now), {}, '', known, 0, {}, synced}
  end
end

local found = redis.call('ZRANGE', index, '-inf', seconds(now), 'BYSCORE', 'LIMIT', 0, most)
redis.call('SET', K.lead .. app, beat, 'PX', lease)
-- At each look: a pass of rq-scheduler that was running deletes its lock at its end.
-- Without entries there is nothing to protect: a plain rqscheduler may go on.
local foreign = known > 0 and hold_pass(true)

local due, cancelled = {}, {}
for _, id in ipairs(found) do
  local row = redis.pcall('HMGET', K.entry .. id, 'fingerprint', 'paused', 'ended')
  local score = redis.call('ZSCORE', K.scheduler_set, id)
  if row.err then
    -- It stays in the index: the record may be right again. The beat tells of it.
    due[#due + 1] = {id, score or seconds(now), ''}
  elseif not row[1] then
    erase(app, id)
  elseif not score then
    if drop_lost(app, id, row[2], row[3]) then cancelled[#cancelled + 1] = id end
  elseif row[2] then
    redis.call('ZREM', index, id)
  else
    -- rq-scheduler's API may have set another time: the set is right, not the index.
    redis.call('ZADD', index, score, id)
    if tonumber(score) <= now then due[#due + 1] = {id, score, row[1]} end
  end
end

local after = ''
if #found == most then
  after = '0'
else
  local head = redis.call('ZRANGE', index, '(' .. seconds(now), '+inf', 'BYSCORE',
    'LIMIT', 0, 1, 'WITHSCORES')
  if head[2] then after = seconds(tonumber(head[2]) - now) end
end
return {1, 0, seconds(now), due, after, known, foreign and 1 or 0, cancelled, synced}
