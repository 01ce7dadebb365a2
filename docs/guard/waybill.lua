-- Asks Waybill whether a request may pass: http-request lua.waybill URL
--
-- If it may, the variable txn.waybill holds "admitted", and the request tells who calls. If
-- not, the client gets Waybill's refusal. On an error HAProxy goes on to the next rule, so the
-- rule after this one must deny whatever was not admitted.

local identity = {
	"x-ishare-client-id",
	"x-ishare-party-id",
	"x-ishare-scope",
	"x-ishare-certificate-thumbprint",
}

-- What the client is told besides the status and the body.
local told = { "www-authenticate", "content-type", "cache-control", "retry-after" }

-- A header field is a table whose first index is 0.
local function values(field)
	local list = {}
	for i = 0, #field do
		list[i + 1] = field[i]
	end
	return list
end

local function refuse(txn, answer)
	local headers = {}
	for _, name in ipairs(told) do
		local field = answer.headers[name]
		if field then
			headers[name] = values(field)
		end
	end
	txn:done(txn:reply({ status = answer.status, headers = headers, body = answer.body }))
end

local function ask(txn, url)
	local headers = {}
	local given = txn.http:req_get_headers()["authorization"]
	if given then
		headers["authorization"] = values(given)
	end
	local answer = core.httpclient():get({ url = url, headers = headers, timeout = 5000 })
	if answer.status == 400 or answer.status == 401 or answer.status == 403 then
		refuse(txn, answer)
	elseif answer.status == 200 then
		for _, name in ipairs(identity) do
			txn.http:req_set_header(name, answer.headers[name][0])
		end
		txn:set_var("txn.waybill", "admitted")
	end
end

core.register_action("waybill", { "http-req" }, ask, 1)
