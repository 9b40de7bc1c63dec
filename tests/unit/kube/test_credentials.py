import sys
from pathlib import Path

import pytest

from arbiter_kube.client.credentials import CredentialsError, find_credentials, from_kubeconfig

UNUSABLE = {
    "text": "just text",
    "no clusters": "apiVersion: v1\nkind: Config\n",
    "no YAML": "apiVersion: [v1\nkind: Config\n",
}


@pytest.mark.parametrize("content", UNUSABLE.values(), ids=UNUSABLE)
def test_a_file_that_is_no_kubeconfig_is_one_sentence_with_its_path(content: str, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(content)
    with pytest.raises(CredentialsError) as refused:
        from_kubeconfig(path)
    assert str(refused.value).startswith(f"{path} cannot be used as a kubeconfig file: ")
    assert "\n" not in str(refused.value)


def test_where_kubeconfig_files_cannot_be_read_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    monkeypatch.delitem(sys.modules, "kubernetes.client", raising=False)
    with pytest.raises(CredentialsError, match=r"install it with: pip install 'arbiter\[cli\]'"):
        find_credentials(None)
