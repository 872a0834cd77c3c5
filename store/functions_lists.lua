-- Lists: one value per shopper holds the newest runs.

-- The runs of a shopper, newest first: each `<as-of> <promotion> <run id> <bytes> ` and that many bytes.
local function parse_runs(value)
  local runs, at = {}, 1
  while at <= #value do
    local as_of, promotion, run_id, bytes, blob_at = string.match(value, '^(%d+) (%d+) (%S+) (%d+) ()', at)
    if not as_of or blob_at + bytes - 1 > #value then
      fail('the stored runs cannot be read')
    end
    local past = blob_at + bytes
    runs[#runs + 1] = {
      as_of = tonumber(as_of), promotion = tonumber(promotion), run_id = run_id,
      blob = string.sub(value, blob_at, past - 1), whole = string.sub(value, at, past - 1),
    }
    at = past
  end
  return runs
end

-- The stored form of the newest `kept` runs, without those whose id is in `left_out`.
local function runs_value(runs, kept, left_out)
  local value = {}
  for _, run in ipairs(runs) do
    if #value < kept and not (run.run_id and left_out[run.run_id]) then
      value[#value + 1] = run.whole
    end
  end
  return table.concat(value)
end

-- publish: KEYS shard, runs, tombstone. ARGV 1 stage, 2 epoch, 3 outcomes kept, 4 user, 5 run id, 6 as-of, 7 promotion,
-- 8 model version, 9 blob, 10 runs kept, 11 TTL, 12 whether a stored list ends the request ('1') or decides that it will end as
-- published ('0'), then run ids: lists that go when this one is stored. Returns 'published', 'repeated' (and the blob that is
-- stored), 'older', 'refused' or 'unknown'.
register('publish', function(k, argv, keys)
  local runs_key, tombstone = keys[11], keys[12]
  local kept, user, run_id, blob = argv[3], argv[4], word(argv[5], 'run id'), argv[9]
  local as_of, promotion = natural(argv[6], 'as-of'), natural(argv[7], 'promotion')
  local runs_kept = natural(argv[10], 'runs kept')
  natural(kept, 'outcomes kept')
  if natural(argv[11], 'TTL') < 1 or runs_kept < 1 or (argv[12] ~= '0' and argv[12] ~= '1') then
    fail('publish: TTL or runs kept is 0, or it is not said whether the request ends')
  end
  local request = find_request(k, user, run_id)
  local function finally(result, outcome, stored)
    if request and stored and argv[12] == '0' then
      request.listed = '+'
      write_request(request.key, user, request)
    elseif request then
      request.remove(k, user)
      ended(k, kept, outcome, user, request)
    end
    return { result, stored }
  end

  local erased = redis.call('GET', tombstone)
  if redis.call('SISMEMBER', k.revoked, argv[8]) == 1 or (erased and as_of <= natural(erased, 'stored tombstone')) then
    return finally('refused', 'refused')
  end
  local runs, place, same = parse_runs(redis.call('GET', runs_key) or ''), 1, nil
  for i, run in ipairs(runs) do
    if run.run_id == run_id and run.promotion >= promotion then
      return finally('repeated', 'published', run.blob)
    end
    if run.as_of == as_of then
      same = i
    end
    if run.as_of > as_of then
      place = i + 1
    end
  end
  if not request then
    return { 'unknown' }
  end
  if (same and runs[same].promotion >= promotion) or place > runs_kept then
    return finally('older', 'conflated')
  end
  if same then
    table.remove(runs, same)
  end
  local header = argv[6] .. ' ' .. argv[7] .. ' ' .. run_id .. ' ' .. #blob .. ' '
  table.insert(runs, place, { whole = header .. blob })
  local replaced = {}
  for i = 13, #argv do
    replaced[argv[i]] = true
  end
  redis.call('SET', runs_key, runs_value(runs, runs_kept, replaced), 'PX', argv[11])
  return finally('published', 'published', blob)
end)
