-- Extend a lease, unless it was released (till 0). KEYS: run. ARGV: step, token, lease ms.
-- Returns 'lost', 'abort' (extended; somebody wants the run to end) or 'held'.
local s = step_get(KEYS[1], ARGV[1])
if not s or s.token ~= ARGV[2] or s.till == 0 then
  return 'lost'
end
s.till = now_ms() + tonumber(ARGV[3])
step_set(KEYS[1], ARGV[1], s)
return lease_status(KEYS[1])
