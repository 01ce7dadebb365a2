#!/bin/sh
# Gets an iSHARE access token with openssl and curl.
#
#   token.sh                print an access token
#   token.sh URL            GET the URL with one, and print the answer
#   token.sh --assertion    print an assertion, unsent, for waybill explain
set -eu
: "${ISHARE_SERVER:?}" "${ISHARE_AUDIENCE:?}" "${ISHARE_CLIENT_ID:?}" "${ISHARE_KEY:?}" "${ISHARE_CERTIFICATES:?}"

base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }

# x5c prints the certificates as JSON strings: the lines between BEGIN and END, joined, leaf first as in the file.
x5c() {
  awk '/BEGIN CERT/ { on = 1; printf "%s\"", comma; next }
       /END CERT/   { on = 0; printf "\""; comma = "," }
       on           { sub(/\r$/, ""); printf "%s", $0 }' "$ISHARE_CERTIFICATES"
}

# assertion prints a new one. It is good for one request within 30 seconds.
assertion() {
  now=$(date +%s)
  jti=$(openssl rand -hex 16)
  header=$(printf '{"alg":"RS256","typ":"JWT","x5c":[%s]}' "$(x5c)" | base64url)
  payload=$(printf '{"iss":"%s","sub":"%s","aud":"%s","jti":"%s","iat":%d,"exp":%d}' "$ISHARE_CLIENT_ID" \
    "$ISHARE_CLIENT_ID" "$ISHARE_AUDIENCE" "$jti" "$now" "$((now + 30))" | base64url)
  signature=$(printf '%s.%s' "$header" "$payload" | openssl dgst -sha256 -sign "$ISHARE_KEY" -binary | base64url)
  printf '%s.%s.%s' "$header" "$payload" "$signature"
}

# token prints an access token, or what the server said instead. The assertion goes through a pipe, since the
# arguments of a process are there for all to see.
token() {
  signed=$(assertion)
  answer=$(printf '%s' "$signed" | curl --silent --show-error --fail-with-body "$ISHARE_SERVER/connect/token" \
    --data-urlencode grant_type=client_credentials \
    --data-urlencode scope=iSHARE \
    --data-urlencode "client_id=$ISHARE_CLIENT_ID" \
    --data-urlencode client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer \
    --data-urlencode client_assertion@-) || { printf '%s\n' "$answer" >&2; return 1; }
  printf '%s\n' "$answer" | sed -n 's/.*"access_token" *: *"\([^"]*\)".*/\1/p'
}

case ${1-} in
  '') token ;;
  --assertion) assertion ;;
  *)
    bearer=$(token)
    printf 'Authorization: Bearer %s\n' "$bearer" | curl --silent --show-error --fail-with-body --header @- "$1"
    ;;
esac
