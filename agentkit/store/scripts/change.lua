-- What commit.lua and commit_call.lua share, behind common.lua: writing a change once it is known that it may be made true.
-- KEYS are those of commit.lua.

-- The step that was lent with an act that is sent again, as claim.lua returns it; nil where none was, or it is lost.
local function lent_again(hash, args)
  local s = args[21] ~= '' and step_get(hash, args[21])
  if s and s.claim == args[1] then
    return lent(hash.run, KEYS[2], KEYS[6], args[21], s, args[13], args[16], args[23])
  end
end

-- `args`: as commit.lua takes them; the second to the fourth are its own to check. `bodies`: events of the same act that
-- stand before the change's. Returns what commit.lua does.
local function write_change(hash, log, args, bodies)
  local run, part, already, at = hash.run, args[17] ~= '', #bodies, 25
  local function take()
    at = at + 1
    return args[at - 1]
  end

  local messages = {}
  for i = 1, tonumber(take()) do
    messages[i] = take()
  end
  push(log, messages)
  for index = 0, tonumber(args[14]) - 1 do
    set(hash, 'k:' .. index, false)
    set(hash, 'r:' .. index, false)
  end
  for _, prefix in ipairs({'k:', 'r:'}) do
    for _ = 1, tonumber(take()) do
      local index = take()
      set(hash, prefix .. index, take())
    end
  end
  for _ = 1, tonumber(take()) do
    bodies[#bodies + 1] = take()
  end
  if part then
    flush_results(hash, log, bodies)
  end
  local before = append_events(hash, log, bodies)
  local first = before + already
  local open = tonumber(get(hash, 'open') or open_steps(run))
  for _ = 1, tonumber(take()) do
    local number = take()
    local from, due, call, lines = take(), tonumber(take()), take(), take()
    -- A step that is due later is held by nobody (token 0) until then.
    step_set(hash, number, {token = '0', till = due, attempt = 0, flush = 0, from = from, claim = '-', call = call})
    set(hash, 'c:' .. number, lines ~= '' and lines)
    open = open + 1
  end
  for _ = 1, tonumber(take()) do
    local number = take()
    if get(hash, 's:' .. number) then
      open = open - 1
    end
    set(hash, 's:' .. number, false)
    set(hash, 'c:' .. number, false)
  end
  for _ = 1, tonumber(take()) do
    local number, call = take(), take()
    local s = step_get(hash, number)
    if s then
      s.call = call
      step_set(hash, number, s)
    end
  end
  for _ = 1, tonumber(take()) do
    local decision, call, event, json = take(), take(), take(), take()
    redis.call('HSET', KEYS[4], 'd:' .. decision, int(first + tonumber(event) + 1) .. ' ' .. json, 't:' .. call, decision)
  end
  for _ = 1, tonumber(take()) do
    local decision, call = take(), take()
    set(hash, 'p:' .. decision, call ~= '' and call)
  end
  for _ = 1, tonumber(take()) do
    local name, since, json = take(), take(), take()
    redis.call('HSET', KEYS[4], 'i:' .. name, (since == '' and int(first) or since) .. ' ' .. json)
  end
  local taken, bytes = tonumber(take()), 0
  for _ = 1, taken do
    local place = take()
    bytes = bytes - #(redis.call('LINDEX', KEYS[6], place) or '')
    redis.pcall('LSET', KEYS[6], place, '')  -- pcall: nothing may end a commit half way, were the list lost
  end
  if taken > 0 then
    redis.call('LREM', KEYS[6], taken, '')
  end
  for _ = 1, tonumber(take()) do
    local message = take()
    bytes = bytes + #message
    redis.call('RPUSH', KEYS[6], message)
  end
  if bytes ~= 0 then
    add(hash, 'qb', bytes)
  end
  local entries = tonumber(take())
  for _ = 1, entries do
    local id, json = take(), take()
    redis.call('HSET', KEYS[7], id, '0 0 ' .. json)
  end
  if entries > 0 then
    set(hash, 'ob', '1')
  end
  set(hash, 'status', args[5])
  set(hash, 'state', args[7])
  set(hash, 'open', int(open))
  set(hash, 'sv', args[13])
  add(hash, 'w', 1)
  if part then
    add(hash, 'wait', args[18])
    add(hash, 'work', args[19])
  else
    set(hash, 'from', args[8])
    set(hash, 'fl', args[9])
    set(hash, 'wait', args[18])
    set(hash, 'work', args[19])
    set(hash, 'calls', args[24])
  end
  if args[6] ~= '' then
    set(hash, 'fixed', args[6])
  end
  if args[12] ~= '' then
    set(hash, 'c', args[12])
  end
  if args[15] ~= '' then
    set(hash, 'abort', args[15])
  end
  local reply = committed(hash, args[1], before, #bodies)
  if args[10] ~= '' then
    set(hash, 'c', false)
    set(hash, 'abort', false)
  end
  local s, version
  if args[21] ~= '' then
    s = step_get(hash, args[21])
    version = lend(hash, log, args[21], s, args[22], args[1])
  end
  write_log(hash, log)
  save(hash)
  if args[10] ~= '' or args[5] == 'paused' then
    redis.call(PUBLISH, run, '')
  end
  if args[10] ~= '' then
    for i = 1, 4 do
      redis.call('PEXPIRE', KEYS[i], args[10])
    end
  end
  for i = 8, #KEYS do
    redis.call('LPUSH', KEYS[i], take())
  end
  if s and (s.from == '0' or open == 1) then
    -- The committer has made the state: it lacks what this act has counted, and the messages that it never read.
    local rest = {}
    if s.from == '0' and int(log.length or -1) ~= args[23] then
      rest = redis.call('LRANGE', KEYS[2], args[23], -1)
    end
    reply[4] = {s.token, version, get(hash, 'seq'), int(s.till), rest}
  elseif s then
    reply[4] = lent(run, KEYS[2], KEYS[6], args[21], s, args[13], args[16], args[23])
  end
  return reply
end
