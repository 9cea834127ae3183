-- Give a step back unfinished; this attempt does not count, but the step stays marked as begun.
-- KEYS: run. ARGV: step, token, 'untouched' (nothing was done in it: the next claim is the same attempt), 'failed' (the
-- attempt counts) or ''.
local s = step_get(KEYS[1], ARGV[1])
if s and s.token == ARGV[2] and s.till > 0 then
  s.till = 0
  if ARGV[3] == 'untouched' then
    s.claim = '='
  elseif ARGV[3] ~= 'failed' then
    s.attempt = math.max(1, s.attempt - 1)
  end
  step_set(KEYS[1], ARGV[1], s)
  redis.call('HINCRBY', KEYS[1], 'v', 1)
end
return 'ok'
