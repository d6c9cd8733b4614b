"""A tour of the service as a client in another language meets it: reflection, no generated code.

    python3 tests/python/tour.py 127.0.0.1:50051

Prints a line a step. The first step that fails ends the tour, for the later ones build on it.
"""

import json
import sys
import uuid

import grpc
import jwt
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from joserfc.jws import default_registry
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_status import rpc_status

SESSIONS = "sessiond.v1.SessionService"
ALERTS = "sessiond.v1.AlertService"
AUDIENCE = "https://api.example.com"
SERVING = health_pb2.HealthCheckResponse.SERVING
TIMEOUT = 10


class Server:
    """Calls by name; requests and answers are dicts in protobuf's JSON form."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        grpc.channel_ready_future(self.channel).result(timeout=TIMEOUT)
        self.reflection = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = DescriptorPool(self.reflection)

    def call(self, service, method, **fields):
        described = self.pool.FindServiceByName(service).FindMethodByName(method)
        rpc = self.channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=GetMessageClass(described.output_type).FromString,
        )
        request = ParseDict(fields, GetMessageClass(described.input_type)())
        return MessageToDict(
            rpc(request, timeout=TIMEOUT),
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )

    def refusal(self, service, method, **fields):
        """The code, reason and domain of a call that must be refused."""
        try:
            answer = self.call(service, method, **fields)
        except grpc.RpcError as error:
            status = rpc_status.from_call(error)
            info = ErrorInfo()
            for detail in status.details if status else []:
                if detail.Is(ErrorInfo.DESCRIPTOR):
                    detail.Unpack(info)
            return error.code().name, info.reason, info.domain
        raise AssertionError(f"{method} was not refused but answered {sorted(answer)}")


def same(what, seen, expected):
    if seen != expected:
        raise AssertionError(f"{what}: expected {expected!r}, saw {seen!r}")


def tour(server):
    """The steps: a generator that yields a line after each."""
    user = f"tour-{uuid.uuid4()}"

    services = set(server.reflection.get_services())
    missing = {SESSIONS, ALERTS, "grpc.health.v1.Health"} - services
    same("services that reflection does not list", missing, set())
    yield f"reflection lists {len(services)} services"

    health = health_pb2_grpc.HealthStub(server.channel)
    for service in ("", SESSIONS, ALERTS):
        # Watch speaks at every change, so a server that still starts up is waited for.
        request = health_pb2.HealthCheckRequest(service=service)
        watch = health.Watch(request, timeout=60)
        next((answer for answer in watch if answer.status == SERVING), None)
        watch.cancel()
        same(f"health of {service!r}", health.Check(request, timeout=TIMEOUT).status, SERVING)
    yield "health is SERVING for the server and both services"

    def create(device, kind, ip_address):
        client = {
            "ip_address": ip_address,
            "user_agent": f"tour/1.0 ({device})",
            "device": {"fingerprint": f"{user}-{device}", "display_name": device, "type": kind},
        }
        answer = server.call(
            SESSIONS, "CreateSession", user_id=user, client_id="tour", client=client,
            authentication={"amr": ["pwd"]}, audiences=[AUDIENCE], request_id=str(uuid.uuid4()),
            scope="openid tour", claims={"plan": {"seats": 3}},
        )
        same("state of a new session", answer["session"]["state"], "SESSION_STATE_ACTIVE")
        return answer

    phone = create("phone", "DEVICE_TYPE_MOBILE", "192.0.2.10")
    laptop = create("laptop", "DEVICE_TYPE_DESKTOP", "192.0.2.20")
    phone_id, laptop_id = (one["session"]["session_id"] for one in (phone, laptop))
    yield "two sessions of a user, from two devices"

    listed = server.call(SESSIONS, "ListSessions", filter={"user_id": user})["sessions"]
    same("listed, newest first", [one["session_id"] for one in listed], [laptop_id, phone_id])
    types = {one["device"]["type"] for one in listed}
    same("device types", types, {"DEVICE_TYPE_MOBILE", "DEVICE_TYPE_DESKTOP"})
    yield "both are listed, newest first"

    def judge(token):
        answer = server.call(SESSIONS, "ValidateSession", access_token=token, audience=AUDIENCE)
        return answer["outcome"], answer["inactive_reason"]

    active = ("OUTCOME_ACTIVE", "INACTIVE_REASON_UNSPECIFIED")
    ended = ("OUTCOME_INACTIVE", "INACTIVE_REASON_SESSION_TERMINATED")
    for one in (phone, laptop):
        same("judgement on a fresh token", judge(one["tokens"]["access_token"]), active)
    yield "both access tokens are active"

    def refresh(token):
        return server.call(SESSIONS, "RefreshSession", refresh_token=token)

    first = phone["tokens"]["refresh_token"]
    second = refresh(first)
    retried = refresh(first)
    same("retry gives the same refresh token",
         retried["tokens"]["refresh_token"] == second["tokens"]["refresh_token"], True)
    third = refresh(second["tokens"]["refresh_token"])
    generations = [one["session"]["refresh_generation"] for one in (phone, second, retried, third)]
    same("generations", generations, [1, 2, 2, 3])
    latest = third["tokens"]["access_token"]
    same("judgement after refreshing", judge(latest), active)
    yield "two refreshes; a retry of the first gives the identical successor"

    header, keys = jwt.get_unverified_header(latest), server.call(SESSIONS, "GetJsonWebKeySet")
    same("typ of the header", header["typ"], "at+jwt")
    key = jwt.PyJWKSet.from_json(keys["jwks_json"])[header["kid"]]
    same("algorithm of the key", key.algorithm_name, "EdDSA")
    # The issuer is whatever this server was started with.
    issuer = jwt.decode(latest, options={"verify_signature": False})["iss"]
    claims = jwt.decode(
        latest, key, algorithms=["EdDSA"], audience=AUDIENCE, issuer=issuer, leeway=5,
        options={"require": ["exp", "nbf", "iss", "aud", "sub", "sid"]},
    )
    same("subject and session", (claims["sub"], claims["sid"]), (user, phone_id))
    same("the platform's own claims", (claims["scope"], claims["plan"]), ("openid tour", {"seats": 3}))

    class Validator(JWTBearerTokenValidator):
        """As RFC 9068, section 4, says."""

        def get_jwks(self):
            return json.loads(keys["jwks_json"])

    # The library decodes with its default algorithms, to which EdDSA belongs only if it is said so.
    default_registry.recommended.append("EdDSA")
    validator = Validator(issuer=issuer, resource_server=AUDIENCE)
    validator.validate_token(validator.authenticate_token(latest), ["openid"], None)
    yield "the access token verifies with PyJWT and the key set alone"

    def replay():
        return server.refusal(SESSIONS, "RefreshSession", refresh_token=first)

    same("refusal", replay(), ("FAILED_PRECONDITION", "REFRESH_TOKEN_REUSED", "sessiond"))
    yield "a replay of the first refresh token is refused as reuse"

    same("judgement", judge(latest), ended)
    session = server.call(SESSIONS, "GetSession", session_id=phone_id, user_id=user)["session"]
    same("its end", (session["state"], session["end_reason"]),
         ("SESSION_STATE_TERMINATED", "END_REASON_REFRESH_REUSE"))
    last = third["tokens"]["refresh_token"]
    refused = server.refusal(SESSIONS, "RefreshSession", refresh_token=last)
    same("refusal of its last refresh token", refused[0], "FAILED_PRECONDITION")
    same("the other session", judge(laptop["tokens"]["access_token"]), active)
    yield "that session is dead, the other one lives"

    same("a second replay", replay()[0], "FAILED_PRECONDITION")
    alerts = server.call(ALERTS, "ListAlerts", filter={"user_id": user})["alerts"]
    same("alerts", [(one["category"], one["severity"], one["state"]) for one in alerts],
         [("CATEGORY_TOKEN_THEFT", "SEVERITY_CRITICAL", "ALERT_STATE_OPEN")])
    same("its session", alerts[0]["session_id"], phone_id)
    alert_id = alerts[0]["alert_id"]
    yield "exactly one critical alert tells of it, however often it is replayed"

    notes = ["Looking into it.", "The user was warned."]
    alert = server.call(ALERTS, "AcknowledgeAlert", alert_id=alert_id, note=notes[0])["alert"]
    same("state", alert["state"], "ALERT_STATE_ACKNOWLEDGED")
    server.call(ALERTS, "ResolveAlert", alert_id=alert_id, resolution="RESOLUTION_TRUE_POSITIVE",
                note=notes[1], etag=alert["etag"])
    alert = server.call(ALERTS, "GetAlert", alert_id=alert_id)["alert"]
    same("state", (alert["state"], alert["resolution"]),
         ("ALERT_STATE_RESOLVED", "RESOLUTION_TRUE_POSITIVE"))
    same("notes", [one["note"] for one in alert["notes"]], notes)
    yield "the alert is acknowledged and resolved, with its notes"

    answer = server.call(
        SESSIONS, "TerminateSession", session_id=laptop_id, reason="END_REASON_LOGOUT"
    )
    same("state", answer["session"]["state"], "SESSION_STATE_TERMINATED")
    same("judgement", judge(laptop["tokens"]["access_token"]), ended)
    yield "the other session is terminated, and its token inactive at once"


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: tour.py HOST:PORT")
    passed = 0
    try:
        for line in tour(Server(sys.argv[1])):
            passed += 1
            print(f"ok   {line}", flush=True)
    except Exception as error:
        if isinstance(error, grpc.RpcError):
            error = f"{error.code().name}: {error.details()}"
        elif isinstance(error, grpc.FutureTimeoutError):
            error = f"no gRPC server answers at {sys.argv[1]}"
        print(f"FAIL step {passed + 1}: {error!s}", flush=True)
        sys.exit(f"{passed} passed, 1 failed")
    print(f"{passed} passed, 0 failed")


if __name__ == "__main__":
    main()
