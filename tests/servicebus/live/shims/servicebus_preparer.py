"""What the suite asks of its preparers, which make queues and topics through Azure's resource manager, made through
the administration API with the SDK's own client. The names are theirs. Where theirs keep one for several tests, each
test gets its own here: none sees what another left."""

import os
import uuid
from types import SimpleNamespace

from azure.servicebus.management import AccessRights, AuthorizationRule, ServiceBusAdministrationClient

from devtools_testutils import HOST, KEY, RULE, Nothing, Preparer, connection_string

SERVICEBUS_ENDPOINT_SUFFIX = os.environ["SERVICEBUS_ENDPOINT_SUFFIX"]


def administration():
    return ServiceBusAdministrationClient.from_connection_string(connection_string())


def named(prefix):
    return f"{prefix}{uuid.uuid4().hex}"[:24]


class ServiceBusNamespacePreparer(Preparer):
    names = tuple(f"servicebus_namespace{part}" for part in ("", "_connection_string", "_key_name", "_primary_key"))

    def __init__(self, *args, **kwargs):
        pass

    def given(self, known):
        namespace = SimpleNamespace(name=HOST)
        return dict(zip(self.names, (namespace, connection_string(), "RootManageSharedAccessKey", KEY)))


class Made(Preparer):
    """One thing that is there for one test."""

    def __init__(self, name_prefix="sb", parameter_name=None, **settings):
        self.prefix = name_prefix
        self.parameter = parameter_name or self.parameter
        self.names = (self.parameter,)
        self.settings = {name: value for name, value in settings.items() if name in self.kept}

    def given(self, known):
        name = named(self.prefix)
        with administration() as client:
            self.make(client, name, known)
        return {self.parameter: SimpleNamespace(name=name)}

    def taken(self, known):
        with administration() as client:
            try:
                self.unmake(client, known[self.parameter].name, known)
            except Exception:
                # The test may have deleted it, or what it is part of.
                pass


class ServiceBusQueuePreparer(Made):
    parameter = "servicebus_queue"
    kept = (
        "requires_duplicate_detection",
        "dead_lettering_on_message_expiration",
        "requires_session",
        "enable_partitioning",
        "lock_duration",
    )

    def make(self, client, name, known):
        # Theirs, where a test says nothing.
        client.create_queue(name, **{"lock_duration": "PT30S", **self.settings})

    def unmake(self, client, name, known):
        client.delete_queue(name)


class ServiceBusTopicPreparer(Made):
    parameter = "servicebus_topic"
    kept = ()

    def make(self, client, name, known):
        client.create_topic(name)

    def unmake(self, client, name, known):
        client.delete_topic(name)


class ServiceBusSubscriptionPreparer(Made):
    parameter = "servicebus_subscription"
    kept = ("requires_session", "lock_duration")

    def make(self, client, name, known):
        settings = {"lock_duration": "PT60S", **self.settings}
        client.create_subscription(known["servicebus_topic"].name, name, **settings)

    def unmake(self, client, name, known):
        client.delete_subscription(known["servicebus_topic"].name, name)


class Rule(Preparer):
    """Keys that may do some things and not others."""

    def __init__(self, name_prefix="sb", access_rights=(), **kwargs):
        self.prefix = name_prefix
        self.rights = [getattr(right, "value", right) for right in access_rights]
        self.names = (self.parameter, f"{self.parameter}_connection_string")

    def given(self, known):
        name = named(self.prefix)
        return {self.names[0]: SimpleNamespace(name=name), self.names[1]: self.make(name, known)}


class ServiceBusNamespaceAuthorizationRulePreparer(Rule):
    """The administration API makes no rules of a namespace: those that there are stand in the file of keys."""

    parameter = "servicebus_authorization_rule"

    def given(self, known):
        name = f"only{self.rights[0]}" if self.rights else RULE
        return {self.names[0]: SimpleNamespace(name=name), self.names[1]: connection_string(name)}


class ServiceBusQueueAuthorizationRulePreparer(Rule):
    parameter = "servicebus_queue_authorization_rule"

    def make(self, name, known):
        queue = known["servicebus_queue"].name
        rights = [AccessRights(right) for right in self.rights] or list(AccessRights)
        with administration() as client:
            properties = client.get_queue(queue)
            rule = AuthorizationRule(
                type="SharedAccessAuthorizationRule",
                claim_type="SharedAccessKey",
                claim_value="None",
                rights=rights,
                key_name=name,
                primary_key=KEY,
                secondary_key=KEY,
            )
            properties.authorization_rules = [rule]
            client.update_queue(properties)
        return connection_string(name, queue)


CachedServiceBusResourceGroupPreparer = Nothing
CachedServiceBusNamespacePreparer = ServiceBusNamespacePreparer
CachedServiceBusQueuePreparer = ServiceBusQueuePreparer
CachedServiceBusTopicPreparer = ServiceBusTopicPreparer
CachedServiceBusSubscriptionPreparer = ServiceBusSubscriptionPreparer
