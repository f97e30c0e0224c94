#!lua flags=allow-oom
-- include: clock args telling leases ending storing claiming
-- Store how executions ended, then claim the next jobs in the same call.
--
-- KEYS  none (they follow from what is read)
-- ARGV  number of ended executions, each as lib/storing.lua reads it; then 0, or 1 and
--       a claim as lib/claiming.lua reads it
-- returns  {codes, jobs, again, notes}; a code is 1 stored, 2 this execution had stored
--          it before, 0 refused: it has lost its lease

local ends = {}
for i = 1, count() do ends[i] = read_end() end
local codes = store_ends(ends)

if count() == 0 then return {codes, {}, 0, {}} end
local jobs, again, notes = claim(read_claim())
return {codes, jobs, again, notes}
