-- What all scripts share. Every script works on the keys of one run, which share a cluster slot by their
-- hash tag; `due.lua` works on the due index alone.
--
-- Keys (P is AGENTKIT_KEY_PREFIX, ID the run's id)
--   P{ID}      hash     the run
--                v        version: +1 with every change of the record or of who holds its steps
--                sv       schemaVersion of the record
--                fixed    JSON, written once; state  JSON, written with every commit (agentkit/core/record.py)
--                status   queued, running, paused, completed, failed, aborted
--                seq      seq of the last event; tok  the last fencing token given
--                from     index of the first message of the open turn
--                acts     the last few commits, a line each: id, version, seq before its events and of the
--                         last of them; one that is sent twice is done once
--                s:N      an open step: "token until attempt flush from claim", until in ms, from = first message it
--                         reads, claim = id of the claim that holds it ('=': the last one did nothing)
--                c        events (one JSON a line) that the next claim appends
--                c:N      events that the first claim of step N appends
--   P{ID}:m    list     the messages, JSON
--   P{ID}:e    stream   the events; id SEQ-0, field d: JSON
--   P{ID}:r    hash     answered items: d:DECISION -> "seq json", t:TOOLCALL -> decision id
--   P{ID}:x    string   the run was deleted, and whoever comes late does not make it again; expires
--   P{ID}:e    channel  "SEQ\n" and the same JSON, a line each; an empty message says that the run is gone
--   P{ID}      channel  an empty message: the run has paused or ended
--   Pdue       zset     run ids, scored by the time (ms) at which somebody must look at them; permanent
--   Pruns      zset     run ids, score 0, read in the order of the ids; permanent
--   Pidem:KEY  string   "digest run-id", expires
--   Pprobe     string   written to see whether the server takes writes; expires
--   Pworkers   zset     workers, scored by the time (ms) until which they count as there; expires
--
-- The keys of an ended run have a TTL; those of a run that has not ended have none.

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Lua writes large numbers as 1.7e12.
local function int(number)
  return string.format('%.0f', number)
end

-- Whether the schemaVersion of a record, false where it has none, is not one up to `known`: it stays untouched.
local function unreadable(sv, known)
  local version = tonumber(sv or '')
  return not version or version > tonumber(known)
end

local function step_get(run, step)
  local raw = redis.call('HGET', run, 's:' .. step)
  if not raw then
    return nil
  end
  local token, till, attempt, flush, from, claim = string.match(raw, '(%d+) (%d+) (%d+) (%d+) (%d+) (%S+)')
  return {
    token = token,
    till = tonumber(till),
    attempt = tonumber(attempt),
    flush = tonumber(flush),
    from = from,
    claim = claim,
  }
end

local function step_set(run, step, s)
  redis.call('HSET', run, 's:' .. step,
    s.token .. ' ' .. int(s.till) .. ' ' .. int(s.attempt) .. ' ' .. int(s.flush) .. ' ' .. s.from .. ' ' .. s.claim)
end

-- Appends events, given without their seq and timestamp; returns the seq before the first of them.
local function append_events(run, stream, bodies, max)
  local before = redis.call('HINCRBY', run, 'seq', #bodies) - #bodies
  if #bodies == 0 then
    return before
  end
  local stamp = ',"timestamp":' .. int(now_ms()) .. ','
  local lines = {int(before + 1)}
  for i, body in ipairs(bodies) do
    local seq = int(before + i)
    local data = '{"seq":' .. seq .. stamp .. string.sub(body, 2)
    redis.call('XADD', stream, 'MAXLEN', max, seq .. '-0', 'd', data)
    lines[i + 1] = data
  end
  redis.call('PUBLISH', stream, table.concat(lines, '\n'))
  return before
end

local function add_lines(list, text)
  if text then
    for line in string.gmatch(text, '[^\n]+') do
      list[#list + 1] = line
    end
  end
end

-- What a RunState is read from.
local function state_of(run, messages, from)
  return {int(now_ms()), redis.call('HGETALL', run), redis.call('LRANGE', messages, from, -1)}
end
