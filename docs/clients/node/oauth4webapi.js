// Gets an iSHARE access token with oauth4webapi.
//
//   node oauth4webapi.js                print an access token
//   node oauth4webapi.js URL            GET the URL with one, and print the answer
//   node oauth4webapi.js --assertion    print an assertion, unsent, for waybill explain
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import * as oauth from 'oauth4webapi'

const server = new URL(setting('ISHARE_SERVER'))
const audience = setting('ISHARE_AUDIENCE')
const client = { client_id: setting('ISHARE_CLIENT_ID') }
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
const authentication = oauth.PrivateKeyJwt(key, {
  [oauth.modifyAssertion](header, payload) {
    header.typ = 'JWT'
    header.x5c = x5c
    payload.aud = audience
    payload.exp = payload.iat + 30
  },
})

// Not every iSHARE server describes itself (RFC 8414). Then its token endpoint is where iSHARE puts it.
async function describe(options) {
  const answer = await oauth.discoveryRequest(server, { ...options, algorithm: 'oauth2' })
  if (answer.status === 200) return oauth.processDiscoveryResponse(server, answer)
  return { issuer: server.href, token_endpoint: server.href.replace(/\/?$/, '/connect/token') }
}

async function main(argument) {
  // Plain http is for a sandbox on this machine.
  const options = { [oauth.allowInsecureRequests]: server.hostname === '127.0.0.1' }
  const as = await describe(options)
  if (argument === '--assertion') {
    const form = new URLSearchParams()
    await authentication(as, client, form, new Headers())
    return form.get('client_assertion')
  }
  const asked = await oauth.clientCredentialsGrantRequest(as, client, authentication, { scope: 'iSHARE' }, options)
  const { access_token: token } = await oauth.processClientCredentialsResponse(as, client, asked)
  if (!argument) return token
  const answer = await oauth.protectedResourceRequest(token, 'GET', new URL(argument), undefined, undefined, options)
  if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`)
  return answer.text()
}

try {
  console.log(await main(process.argv[2]))
} catch (error) {
  if (error instanceof oauth.ResponseBodyError) {
    console.error(`${error.error}: ${error.error_description}`)
  } else if (error.cause instanceof Response) { // 503, for instance: the library leaves it unread
    console.error(`${error.cause.status}: ${await error.cause.text()}`)
  } else {
    throw error
  }
  process.exitCode = 1
}
