#!lua flags=allow-oom
-- include: args telling
-- Store what a running task says of itself.
--
-- KEYS  none (they follow from the job)
-- ARGV  id, queue, execution, counted list of hash pairs
-- returns  1 stored, 0 refused: the lease is lost, or the key holds no job

local id, queue, execution, fields = arg(), arg(), arg(), list()
if not redis.call('ZSCORE', K.wip .. queue, id .. ':' .. execution) then return 0 end
local stored = redis.pcall('HSET', K.job .. id, unpack(fields))
tell(id)
return type(stored) == 'number' and 1 or 0
