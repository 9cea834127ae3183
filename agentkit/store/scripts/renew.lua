-- Extend a lease, unless it was released (till 0). KEYS: run. ARGV: step, token, lease ms.
-- Returns 'lost', 'abort' (extended; somebody wants the run to end) or 'held'.
local hash = hash_of(KEYS[1], {'s:' .. ARGV[1], 'abort'})
local s = step_get(hash, ARGV[1])
if not s or s.token ~= ARGV[2] or s.till == 0 then
  return 'lost'
end
s.till = now_ms() + tonumber(ARGV[3])
step_set(hash, ARGV[1], s)
save(hash)
return get(hash, 'abort') and 'abort' or 'held'
