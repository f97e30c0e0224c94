#!lua flags=allow-oom
-- include: clock args telling
-- Write a job that was claimed ahead as started.
--
-- KEYS  none (they follow from the job)
-- ARGV  id, queue, execution, seconds since it was started
-- returns  1 written, 0 refused: the lease is lost, or the key holds no job

local id, queue, execution, ago = arg(), arg(), arg(), count()
if not redis.call('ZSCORE', K.wip .. queue, id .. ':' .. execution) then return 0 end
local stored = redis.pcall('HSET', K.job .. id, 'started_at', stamp(now - ago),
  'last_heartbeat', stamp(now))
tell(id)
return type(stored) == 'number' and 1 or 0
