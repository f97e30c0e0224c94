#!lua flags=allow-oom
-- include: args
-- Let workers take no more jobs from a queue. What runs goes on.
--
-- KEYS  none (the set of paused queues)
-- ARGV  queue
-- returns  1 it is paused now, 0 it was before

return redis.call('SADD', K.paused, arg())
