-- Give a step back unfinished; this attempt does not count, but the step stays marked as begun.
-- KEYS: run. ARGV: step, token, 'untouched' (nothing was done in it: the next claim is the same attempt), 'failed' (the
-- attempt counts) or '', and with 'untouched' when it is due (ms), though it may be claimed before, or ''.
local hash = hash_of(KEYS[1], {'s:' .. ARGV[1], 'v'})
local s = step_get(hash, ARGV[1])
if s and s.token == ARGV[2] and s.till > 0 then
  s.till = 0
  if ARGV[3] == 'untouched' then
    s.claim = '='
    if ARGV[4] ~= '' then
      s.token, s.till = '0', tonumber(ARGV[4])
    end
  elseif ARGV[3] ~= 'failed' then
    s.attempt = math.max(1, s.attempt - 1)
  end
  step_set(hash, ARGV[1], s)
  add(hash, 'v', 1)
  save(hash)
end
return 'ok'
