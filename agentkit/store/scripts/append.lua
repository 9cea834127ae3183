-- Append events under a lease. KEYS: run, messages, events. ARGV: step, token, flush number, events kept, events...
-- Returns 'lost', 'abort' (appended; somebody wants the run to end) or 'held', and how many connections follow the run.
local s = step_get(KEYS[1], ARGV[1])
if not s or s.token ~= ARGV[2] then
  return {'lost', 0}
end
local receivers = 0
if tonumber(ARGV[3]) > s.flush then
  s.flush = tonumber(ARGV[3])
  step_set(KEYS[1], ARGV[1], s)
  local bodies = {}
  for i = 5, #ARGV do
    bodies[i - 4] = ARGV[i]
  end
  local _
  _, receivers = append_events(KEYS[1], KEYS[2], KEYS[3], bodies, ARGV[4])
end
return {lease_status(KEYS[1]), receivers}
