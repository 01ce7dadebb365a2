"""Gets an iSHARE access token with PyJWT.

    get_token.py                print an access token
    get_token.py URL            GET the URL with one, and print the answer
    get_token.py --assertion    print an assertion, unsent, for waybill explain
"""
import json
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

import jwt

SERVER = os.environ["ISHARE_SERVER"]
AUDIENCE = os.environ["ISHARE_AUDIENCE"]
CLIENT_ID = os.environ["ISHARE_CLIENT_ID"]
KEY = os.environ["ISHARE_KEY"]
CERTIFICATES = os.environ["ISHARE_CERTIFICATES"]


def read(path):
    with open(path, encoding="ascii") as file:
        return file.read()


def x5c():
    """The lines between BEGIN and END of each certificate, joined, leaf first as in the file."""
    pem = r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----"
    return ["".join(body.split()) for body in re.findall(pem, read(CERTIFICATES), re.DOTALL)]


def assertion():
    """A new one. It is good for one request within 30 seconds."""
    now = int(time.time())
    payload = {
        "iss": CLIENT_ID,
        "sub": CLIENT_ID,
        "aud": AUDIENCE,
        "jti": str(uuid.uuid4()),
        "iat": now,
        "exp": now + 30,
    }
    return jwt.encode(payload, read(KEY), algorithm="RS256", headers={"typ": "JWT", "x5c": x5c()})


def fetch(request):
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read().decode()


def token():
    form = {
        "grant_type": "client_credentials",
        "scope": "iSHARE",
        "client_id": CLIENT_ID,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": assertion(),
    }
    body = urllib.parse.urlencode(form).encode()
    return json.loads(fetch(urllib.request.Request(SERVER + "/connect/token", data=body)))["access_token"]


def main(argument=None):
    if argument is None:
        print(token())
    elif argument == "--assertion":
        print(assertion())
    else:
        print(fetch(urllib.request.Request(argument, headers={"Authorization": "Bearer " + token()})))


try:
    main(*sys.argv[1:])
except urllib.error.HTTPError as error:
    sys.exit(f"{error}\n{error.read().decode()}")  # the reason is in the body
