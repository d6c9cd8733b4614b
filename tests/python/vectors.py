"""Runs testdata/gateway/vectors.json against a verifier of its own, written from that folder's README alone.

    python3 tests/python/vectors.py testdata/gateway/vectors.json
"""

import datetime
import hashlib
import json
import sys

import jwt

REQUIRED = {
    "iss": str, "sub": str, "client_id": str, "aud": list, "exp": int, "nbf": int, "iat": int,
    "jti": str, "sid": str, "tid": str, "did": str, "rg": int,
}
LEEWAY = 5


def seconds(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


class Verifier:
    """Knows the keys, follows the revocations of one tenant, and keeps the service's time."""

    def __init__(self, file):
        self.file = file
        self.keys = {key["kid"]: key for key in file["key_set"]["keys"]}
        self.known, self.coming = {}, None
        self.opened = self.ahead = self.checked = None

    def open(self, now):
        self.opened, self.coming = now, None

    def receive(self, now, message):
        if message.get("resync"):
            self.coming = {}
        into = self.known if self.coming is None else self.coming
        for revocation in message.get("revocations", []):
            self.add(into, revocation)
        if "checkedTime" not in message:
            return
        self.checked = seconds(message["checkedTime"])
        if self.coming is not None:
            self.known, self.coming = self.coming, None
        self.known = {k: v for k, v in self.known.items() if seconds(v["evictTime"]) > self.checked}
        if self.opened is not None:
            self.ahead, self.opened = self.checked - self.opened, None
        self.ahead = max(self.ahead, self.checked - now)

    @staticmethod
    def add(into, new):
        key = (new["level"], new["subject"])
        # 0 stands for all generations.
        below = new.get("belowGeneration") or float("inf")
        into[key] = {**new, "below": max(below, into.get(key, {}).get("below", 0))}

    def judge(self, now, token):
        if self.checked is None:
            return "stale"
        time = now + self.ahead
        if round(time - self.checked, 6) > self.file["staleness_bound_ms"] / 1000:
            return "stale"
        try:
            header = jwt.get_unverified_header(token)
            if header.get("typ") != "at+jwt" or "kid" not in header:
                return "refuse"
            key = self.keys.get(header["kid"])
            if key is None:
                return "ask"
            claims = jwt.decode(
                token, jwt.PyJWK(key).key, algorithms=[key["alg"]],
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False},
            )
        except jwt.PyJWTError:
            return "refuse"
        if any(type(claims.get(name)) is not kind for name, kind in REQUIRED.items()):
            return "refuse"
        if claims["iss"] != self.file["issuer"] or not claims["tid"]:
            return "refuse"
        if int(time) >= claims["exp"] or self.file["audience"] not in claims["aud"]:
            return "refuse"
        if claims["tid"] != self.file["tenant"] or int(time) + LEEWAY < claims["nbf"]:
            return "ask"
        return "ask" if any(self.matches(it, header, claims) for it in self.known.values()) else "accept"

    @staticmethod
    def matches(revocation, header, claims):
        level, subject = revocation["level"].removeprefix("REVOCATION_LEVEL_"), revocation["subject"]
        user = hashlib.sha256(f"{claims['tid']}\0{claims['sub']}".encode()).hexdigest()
        early = claims["iat"] <= seconds(revocation["revokeTime"]) + LEEWAY
        return {
            "SESSION": subject == claims["sid"] and claims["rg"] < revocation["below"],
            "DEVICE": subject == claims["did"] and early,
            "USER": subject == user and early,
            "TENANT": early,
            "KEY": subject == header["kid"],
        }.get(level, True)


def main(path):
    with open(path, encoding="utf-8") as opened:
        file = json.load(opened)
    judged = 0
    for case in file["cases"]:
        verifier = Verifier(file)
        for step in case["steps"]:
            now = step["at_ms"] / 1000
            if step.get("open"):
                verifier.open(now)
            elif "message" in step:
                verifier.receive(now, step["message"])
            else:
                found = verifier.judge(now, file["tokens"][step["token"]]["token"])
                if found != step["verdict"]:
                    sys.exit(f"{case['name']}: {step} is {found}")
                judged += 1
    print(f"vectors: {len(file['cases'])} cases, {judged} verdicts")


if __name__ == "__main__":
    main(*sys.argv[1:])
