"""What the suite asks of devtools_testutils, which drives Azure, answered with a Mente: one namespace that is there
already, and no recordings. The names are theirs."""

import asyncio
import functools
import inspect
import os
from types import SimpleNamespace

from azure.servicebus._base_handler import ServiceBusSharedKeyCredential
from azure.servicebus.aio._base_handler_async import ServiceBusSharedKeyCredential as AsyncioCredential

RULE, KEY = "RootManageSharedAccessKey", os.environ["MENTE_SERVICEBUS_KEY"]
HOST = "localhost"
SUFFIX = os.environ["SERVICEBUS_ENDPOINT_SUFFIX"]


def connection_string(rule=RULE, entity=None):
    path = f";EntityPath={entity}" if entity else ""
    return f"Endpoint=sb://{HOST}{SUFFIX}/;SharedAccessKeyName={rule};SharedAccessKey={KEY}{path}"


class AzureRecordedTestCase:
    is_live = True

    @staticmethod
    def await_prepared_test(test):
        @functools.wraps(test)
        def awaited(*args, **known):
            return asyncio.run(test(*args, **known))

        return awaited


AzureMgmtRecordedTestCase = AzureRecordedTestCase


def get_credential(is_async=False, **kwargs):
    """A key where they have an identity of Azure's."""
    return (AsyncioCredential if is_async else ServiceBusSharedKeyCredential)(RULE, KEY)


def recorded_by_proxy(test):
    return test


def set_custom_default_matcher(**options):
    """How recordings are told apart."""


class Preparer:
    """Hands a test what it asks for by name: `given` makes it, `taken` takes it away."""

    # The names of what it gives.
    names = ()

    def given(self, known):
        return {}

    def taken(self, known):
        pass

    def __call__(self, test):
        whole = inspect.signature(test)
        # A test need not take all that is handed down to it; what another preparer made of one does.
        takes_all = hasattr(test, "is_prepared") or any(
            parameter.kind is parameter.VAR_KEYWORD for parameter in whole.parameters.values()
        )

        def taken_by_test(known):
            return {name: value for name, value in known.items() if takes_all or name in whole.parameters}

        if inspect.iscoroutinefunction(test):

            @functools.wraps(test)
            async def prepared(self_of_test, **known):
                known.update(self.given(known))
                try:
                    return await test(self_of_test, **taken_by_test(known))
                finally:
                    self.taken(known)

        else:

            @functools.wraps(test)
            def prepared(self_of_test, **known):
                known.update(self.given(known))
                try:
                    return test(self_of_test, **taken_by_test(known))
                finally:
                    self.taken(known)

        # pytest takes what is left in the signature for fixtures and parameters.
        left = [
            parameter
            for parameter in whole.parameters.values()
            if parameter.name not in self.names and parameter.kind is not parameter.VAR_KEYWORD
        ]
        prepared.is_prepared = True
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
