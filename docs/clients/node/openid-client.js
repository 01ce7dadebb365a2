// Gets an iSHARE access token with openid-client.
//
//   node openid-client.js                print an access token
//   node openid-client.js URL            GET the URL with one, and print the answer
//   node openid-client.js --assertion    print an assertion, unsent, for waybill explain
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import * as openid from 'openid-client'

const server = new URL(setting('ISHARE_SERVER'))
const audience = setting('ISHARE_AUDIENCE')
const clientID = setting('ISHARE_CLIENT_ID')
const key = await readKey(setting('ISHARE_KEY'))
const x5c = readChain(setting('ISHARE_CERTIFICATES'))

function setting(name) {
  if (!process.env[name]) throw new Error(`set ${name}`)
  return process.env[name]
}

// A CryptoKey has no kid, so that none gets into the header.
async function readKey(path) {
  const der = createPrivateKey(readFileSync(path)).export({ type: 'pkcs8', format: 'der' })
  return crypto.subtle.importKey('pkcs8', der, { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }, false, ['sign'])
}

// The entries of x5c are standard base64 of the DER, leaf first as in the file.
function readChain(path) {
  const blocks = readFileSync(path, 'utf8').match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
  return blocks.map((pem) => new X509Certificate(pem).raw.toString('base64'))
}

// What iSHARE wants otherwise than the library: it leaves out typ, names the server by its URL, and allows a minute.
const authentication = openid.PrivateKeyJwt(key, {
  [openid.modifyAssertion](header, payload) {
    header.typ = 'JWT'
    header.x5c = x5c
    payload.aud = audience
    payload.exp = payload.iat + 30
  },
})

// Not every iSHARE server describes itself (RFC 8414). Then its token endpoint is where iSHARE puts it.
async function describe() {
  // Plain http is for a sandbox on this machine.
  const execute = server.hostname === '127.0.0.1' ? [openid.allowInsecureRequests] : []
  try {
    return await openid.discovery(server, clientID, undefined, authentication, { algorithm: 'oauth2', execute })
  } catch (error) {
    if (!(error.cause instanceof Response)) throw error // nobody answers, for instance
  }
  const metadata = { issuer: server.href, token_endpoint: server.href.replace(/\/?$/, '/connect/token') }
  const config = new openid.Configuration(metadata, clientID, undefined, authentication)
  for (const change of execute) change(config)
  return config
}

async function main(argument) {
  const config = await describe()
  if (argument === '--assertion') {
    const form = new URLSearchParams()
    await authentication(config.serverMetadata(), config.clientMetadata(), form, new Headers())
    return form.get('client_assertion')
  }
  const { access_token: token } = await openid.clientCredentialsGrant(config, { scope: 'iSHARE' })
  if (!argument) return token
  const answer = await openid.fetchProtectedResource(config, token, new URL(argument), 'GET')
  if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`)
  return answer.text()
}

try {
  console.log(await main(process.argv[2]))
} catch (error) {
  if (error instanceof openid.ResponseBodyError) {
    console.error(`${error.error}: ${error.error_description}`)
  } else if (error.cause instanceof Response) { // 503, for instance: the library leaves it unread
    console.error(`${error.cause.status}: ${await error.cause.text()}`)
  } else {
    throw error
  }
  process.exitCode = 1
}
