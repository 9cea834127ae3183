-- Append events to runs under leases: to one, or, where the store is one server, to many that write at one time.
-- KEYS: run, messages, events; of each run. ARGV: events kept; then of each run: step, token, flush number, how many
-- events, events...
-- Returns of each run 'lost', 'abort' (appended; somebody wants the run to end) or 'held', and how many connections
-- follow it; or the error that it met, which is no other run's.
local max = ARGV[1]

local function append(run, messages, stream, step, token, flush, first, last)
  local field = 's:' .. step
  local known = redis.call('HMGET', run, field, 'seq', 'abort')
  -- As `step_of` has it. Text by text, since this is done for each run and many times a second.
  local held, lease, written, rest = string.match(known[1] or '', '^(%d+)( %d+ %d+ )(%d+)(.*)$')
  if held ~= token then
    return {'lost', 0}
  end
  local receivers = 0
  if tonumber(flush) > tonumber(written) then
    local bodies = {}
    for i = first, last do
      bodies[#bodies + 1] = ARGV[i]
    end
    local before = tonumber(known[2])
    redis.call('HSET', run, field, token .. lease .. flush .. rest, 'seq', int(before + #bodies))
    receivers = write_events(log_of(messages, stream, max), before, bodies)
  end
  return {known[3] and 'abort' or 'held', receivers}
end

local replies, place = {}, 2
for i = 1, #KEYS, 3 do
  local first = place + 4
  local last = first + tonumber(ARGV[place + 3]) - 1
  local run = {KEYS[i], KEYS[i + 1], KEYS[i + 2], ARGV[place], ARGV[place + 1], ARGV[place + 2], first, last}
  local done, reply = pcall(append, unpack(run))
  if not done and type(reply) ~= 'table' then
    reply = {err = reply} -- as Redis 6 raises it
  end
  replies[#replies + 1] = reply
  place = last + 1
end
return replies
