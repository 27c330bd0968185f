"""What the suite asks of devtools_testutils, which drives Azure, answered with a Mente: one namespace that is there
already, and no recordings. The names are theirs."""

import functools
import inspect
import os
from types import SimpleNamespace

from azure.servicebus._base_handler import ServiceBusSharedKeyCredential
from azure.servicebus.aio._base_handler_async import ServiceBusSharedKeyCredential as AsyncioCredential

RULE, KEY = "RootManageSharedAccessKey", "any"
HOST = "localhost"
SUFFIX = os.environ["SERVICEBUS_ENDPOINT_SUFFIX"]


def connection_string(rule=RULE, entity=None):
    path = f";EntityPath={entity}" if entity else ""
    return f"Endpoint=sb://{HOST}{SUFFIX}/;SharedAccessKeyName={rule};SharedAccessKey={KEY}{path}"


class AzureRecordedTestCase:
    is_live = True


AzureMgmtRecordedTestCase = AzureRecordedTestCase


def get_credential(is_async=False, **kwargs):
    """A key where they have an identity of Azure's."""
    return (AsyncioCredential if is_async else ServiceBusSharedKeyCredential)(RULE, KEY)


def recorded_by_proxy(test):
    return test


class Preparer:
    """Hands a test what it asks for by name: `given` makes it, `taken` takes it away."""

    # The names of what it gives.
    names = ()

    def given(self, known):
        return {}

    def taken(self, known):
        pass

    def __call__(self, test):
        if inspect.iscoroutinefunction(test):

            @functools.wraps(test)
            async def prepared(self_of_test, **known):
                known.update(self.given(known))
                try:
                    return await test(self_of_test, **known)
                finally:
                    self.taken(known)

        else:

            @functools.wraps(test)
            def prepared(self_of_test, **known):
                known.update(self.given(known))
                try:
                    return test(self_of_test, **known)
                finally:
                    self.taken(known)

        # pytest takes what is left in the signature for fixtures and parameters.
        whole = inspect.signature(test)
        left = [
            parameter
            for parameter in whole.parameters.values()
            if parameter.name not in self.names and parameter.kind is not parameter.VAR_KEYWORD
        ]
        prepared.__signature__ = whole.replace(parameters=left)
        return prepared


class Nothing(Preparer):
    """A resource group: Mente has none."""

    names = ("resource_group", "location")

    def __init__(self, *args, **kwargs):
        pass

    def given(self, known):
        return {"resource_group": SimpleNamespace(name="none"), "location": "here"}


CachedResourceGroupPreparer = RandomNameResourceGroupPreparer = Nothing


class PowerShellPreparer(Preparer):
    """What their scripts leave in the environment."""

    def __init__(self, name, **defaults):
        ours = {
            "servicebus_connection_str": connection_string(),
            "servicebus_fully_qualified_namespace": f"{HOST}{SUFFIX}",
            "servicebus_sas_policy": RULE,
            "servicebus_sas_key": KEY,
        }
        self.values = {**defaults, **ours}
        self.names = tuple(self.values)

    def given(self, known):
        return self.values
