-- Append an answer to the chain. KEYS: chain, entries, decision ids. ARGV: number and hash of the entry that it was
-- computed after, decision id, its hash, its line, names of lists...
-- Returns 'ok', 'known' where the answer to the same item is there, or {number, hash} of the entry that is the last now.
if redis.call('HEXISTS', KEYS[3], ARGV[3]) == 1 then
  return 'known'
end
local known = redis.call('HMGET', KEYS[1], 'last', 'head')
local last, head = known[1] or '0', known[2] or ''
if last ~= ARGV[1] or head ~= ARGV[2] then
  return {last, head}
end
local number = int(last + 1)
local lists = {}
for i = 6, #ARGV do
  redis.call('XADD', KEYS[1] .. ARGV[i], number .. '-0', 'n', '')
  lists[i - 5] = ARGV[i]
end
redis.call('XADD', KEYS[2], number .. '-0', 'i', ARGV[3], 't', int(now_ms()), 'h', ARGV[4], 'l',
  table.concat(lists, '\n'), 'd', ARGV[5])
redis.call('HSET', KEYS[3], ARGV[3], number)
redis.call('HSET', KEYS[1], 'last', number, 'head', ARGV[4])
return 'ok'
