#!lua flags=allow-oom
-- include: clock args telling leases ending claiming
-- Take the next jobs of the first queue that has some.
--
-- KEYS  none (they follow from what is read)
-- ARGV  a claim as lib/claiming.lua reads it
-- returns  {jobs, again, notes}; a job is {id, queue, execution, fields and values}, a
--          note is {kind, id, queue, reason}

local jobs, again, notes = claim(read_claim())
return {jobs, again, notes}
