import sys

import pytest

from arbiter_kube.client.credentials import CredentialsError, find_credentials


def test_where_kubeconfig_files_cannot_be_read_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    monkeypatch.delitem(sys.modules, "kubernetes.client", raising=False)
    with pytest.raises(CredentialsError, match=r"install it with: pip install 'arbiter\[cli\]'"):
        find_credentials(None)
