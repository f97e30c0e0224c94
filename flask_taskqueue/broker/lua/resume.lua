#!lua flags=allow-oom
-- include: args
-- Let workers take jobs from a paused queue again. They notice when they sweep.
--
-- KEYS  none (the set of paused queues)
-- ARGV  queue
-- returns  1 it is served again, 0 it was not paused

return redis.call('SREM', K.paused, arg())
