-- End the step of a tool call, beside others that are open: with its result, or since a sub-agent's run works on it. Where
-- it is the last of its turn to end, also make true what follows from that, if its caller knows what.
-- KEYS: as in commit.lua.
-- ARGV: commit id, step, token, index of the call, its tool result message or '', JSON of the call or '', events kept,
-- schema version, bytes of what is queued up to which a state brings it along, how many events, events..., then what
-- follows from the end of the turn, where that is known: ARGV of commit.lua, with another commit id.
-- Returns 'missing', 'lost', {'state', state...} where a commit must say what follows (it is the last open step and that was
-- not known, or from an older version of what calls share; or the run is to be aborted, or its record is an older one), or
-- {version, seq before the events, last seq} and, where the turn has ended with it, what claim.lua returns for the step
-- that was lent, as in commit.lua, or ''.
local run, bodies, last = KEYS[1], {}, {}
for i = 11, #ARGV do
  local list = i <= 10 + ARGV[10] and bodies or last
  list[#list + 1] = ARGV[i]
end
local names = {'v', 'acts', 'sv', 'abort', 'open', 's:' .. ARGV[2], 'fl', 'seq', 'work', 'w', 'tok', 'status', 'c'}
local hash, log = hash_of(run, names), log_of(KEYS[2], KEYS[3], ARGV[7])
if not get(hash, 'v') then
  return 'missing'
end
local before = answered(get(hash, 'acts'), ARGV[1])
if before then
  return before
end
before = last[1] and answered(get(hash, 'acts'), last[1])
if before then
  before[4] = lent_again(hash, last) or ''
  return before
end
local s = step_get(hash, ARGV[2])
if not s or s.token ~= ARGV[3] then
  return 'lost'
end

-- Whether all calls of the turn have results once this one has, as what is to follow was computed.
local function ends_turn()
  if last[2] ~= get(hash, 'w') then
    return false
  end
  local first = tonumber(get(hash, 'fl'))
  local index = first
  while int(index) == ARGV[4] or get(hash, 'r:' .. index) do
    index = index + 1
  end
  local messages = redis.call('LLEN', KEYS[2]) + index - first
  return not get(hash, 'k:' .. index) and int(messages) == last[8]
end

local is_last = get(hash, 'open') == '1'
if get(hash, 'abort') or get(hash, 'sv') ~= ARGV[8] or (is_last and not ends_turn()) then
  return {'state', state_of(run, little_of(run, KEYS[6], ARGV[9]))}
end

set(hash, 's:' .. ARGV[2], false)
set(hash, 'c:' .. ARGV[2], false)
add(hash, 'open', -1)
if ARGV[6] ~= '' then
  set(hash, 'k:' .. ARGV[4], ARGV[6])
  add(hash, 'work', 1)
else
  set(hash, 'r:' .. ARGV[4], ARGV[5])
  flush_results(hash, log, bodies)
end
if is_last then
  local reply = write_change(hash, log, last, bodies)
  reply[4] = reply[4] or ''
  return reply
end
local seq = append_events(hash, log, bodies)
set(hash, 'up', int(now_ms()))
local reply = committed(hash, ARGV[1], seq, #bodies)
write_log(hash, log)
save(hash)
return reply
