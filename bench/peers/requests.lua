-- wrk's requests, each spelled when it is first needed. WHAT: heartbeat, forged, connect, get.
local what, target, lines, requests = os.getenv("WHAT"), os.getenv("TARGET"), {}, {}
local beat = os.getenv("BEAT") or '{"status":"online","metrics":{"cpu":45,"memory":60,"activeConnections":3}}'
local common = "Host: gateway\r\nUser-Agent: node\r\nAccept: */*\r\n"

local function post(path, token, body)
    return "POST " .. path .. " HTTP/1.1\r\n" .. common .. "Content-Type: application/json\r\n"
        .. (token and "Authorization: Bearer " .. token .. "\r\n" or "")
        .. "Content-Length: " .. #body .. "\r\n\r\n" .. body
end

-- Another signature of the right length.
local function forge(token)
    return token:sub(1, -44) .. "A" .. token:sub(-42, -2):reverse() .. "A"
end

local function spell(at)
    if what == "connect" then return post(target, nil, os.getenv("BODY")) end
    if what == "get" then return "GET " .. target .. " HTTP/1.1\r\n" .. common .. "\r\n" end
    local id, token = lines[at]:match("(%S+) (%S+)")
    return post("/agents/" .. id .. "/heartbeat", what == "forged" and forge(token) or token, beat)
end

if what == "heartbeat" or what == "forged" then
    for line in io.lines(os.getenv("TOKENS")) do lines[#lines + 1] = line end
end

math.randomseed(os.time()) -- a short run gets another part of a long list each time
local count = math.max(#lines, 1)
local at = math.random(count)
function request()
    at = at % count + 1
    requests[at] = requests[at] or spell(at)
    return requests[at]
end
