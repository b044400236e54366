import dataclasses
import gzip
import hashlib
import io
import os
import socket
import sys
import zipfile

import pytest

from latentia.data.files import PublishedFile, read

CONTENT = b"what was published\n" * 4000
PUBLISHED = gzip.compress(CONTENT, mtime=0)
NAME = "content.bin.gz"


@pytest.fixture
def file(server):
    server.files[f"/{NAME}"] = PUBLISHED
    return PublishedFile("set", NAME, f"{server.address}/{NAME}", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def copy(tmp_path):
    """Folder for local copies, to be named as data_dir, and the path of the one file that belongs there."""
    folder = tmp_path / "copies"
    (folder / "set").mkdir(parents=True)
    return folder, folder / "set" / NAME


def test_local_copy(file, copy, server):
    folder, path = copy
    path.write_bytes(PUBLISHED)
    assert read(file, folder) == CONTENT
    assert read(file, str(folder)) == CONTENT
    assert server.requests == []


def test_local_copy_named_by_the_environment(file, copy, server, monkeypatch):
    folder, path = copy
    path.write_bytes(PUBLISHED)
    monkeypatch.setenv("LATENTIA_DATA", str(folder))
    assert read(file) == CONTENT
    assert server.requests == []


def test_argument_goes_before_environment(file, copy, monkeypatch):
    folder, path = copy
    path.write_bytes(PUBLISHED)
    monkeypatch.setenv("LATENTIA_DATA", str(folder / "elsewhere"))
    assert read(file, folder) == CONTENT


def test_home_is_expanded(file, copy, monkeypatch):
    folder, path = copy
    path.write_bytes(PUBLISHED)
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("USERPROFILE", str(folder.parent))
    assert read(file, f"~/{folder.name}") == CONTENT


def test_decompressed_copy(file, copy):
    folder, path = copy
    path.with_suffix("").write_bytes(CONTENT)
    assert read(file, folder) == CONTENT


def test_copy_decompressed_under_its_published_name(file, copy):
    folder, path = copy
    path.write_bytes(CONTENT)
    assert read(file, folder) == CONTENT


def test_recompressed_copy(file, copy):
    folder, path = copy
    recompressed = gzip.compress(CONTENT, compresslevel=1, mtime=1)
    assert recompressed != PUBLISHED
    path.write_bytes(recompressed)
    assert read(file, folder) == CONTENT


def test_one_flipped_byte_is_refused(file, copy):
    folder, path = copy
    wrong = bytearray(CONTENT)
    wrong[1234] ^= 1
    path.with_suffix("").write_bytes(wrong)
    hashes = [hashlib.sha256(content).hexdigest() for content in (wrong, CONTENT)]
    with pytest.raises(ValueError, match="content.bin is not as .* {}, expected {}".format(*hashes)):
        read(file, folder)
    assert path.with_suffix("").exists()  # a copy is the user's own, and not ours to remove


@pytest.mark.parametrize("position", [len(PUBLISHED) // 2, len(PUBLISHED) - 6, len(PUBLISHED) - 1])
def test_one_flipped_byte_of_a_compressed_copy_is_refused(file, copy, position):
    folder, path = copy
    wrong = bytearray(PUBLISHED)
    wrong[position] ^= 1
    path.write_bytes(wrong)
    with pytest.raises(ValueError, match=r"content.bin.gz is (a truncated or damaged gzip|not as published)"):
        read(file, folder)


@pytest.mark.parametrize("end", [2, 10, len(PUBLISHED) // 2, len(PUBLISHED) - 1])
def test_truncated_gzip_is_refused(file, copy, end):
    folder, path = copy
    path.write_bytes(PUBLISHED[:end])
    with pytest.raises(ValueError, match=r"content.bin.gz is a truncated or damaged gzip file"):
        read(file, folder)


def test_empty_file_is_refused(file, copy):
    folder, path = copy
    path.touch()
    with pytest.raises(ValueError, match="not as published"):
        read(file, folder)


def test_folder_without_the_file(file, copy, server):
    folder, path = copy
    with pytest.raises(FileNotFoundError) as caught:
        read(file, folder)
    assert str(caught.value) == (f"expected {path}, or the same decompressed, but data_dir={folder} has no such file")
    assert server.requests == []


def test_no_such_folder(file, copy, server, monkeypatch):
    missing = copy[0] / "missing"
    monkeypatch.setenv("LATENTIA_DATA", str(missing))
    with pytest.raises(FileNotFoundError, match=f"but LATENTIA_DATA={missing} is not a folder"):
        read(file)
    assert server.requests == []


def test_download(file, cache, server, capsys):
    assert read(file) == CONTENT
    assert (cache / "set" / NAME).read_bytes() == PUBLISHED
    assert "content.bin.gz ━" in capsys.readouterr().err  # the progress bar


def test_downloads_once(file, cache, server):
    assert read(file) == read(file) == CONTENT
    assert server.requests == [f"/{NAME}"]


def test_empty_variable_names_no_folder(file, cache, monkeypatch):
    monkeypatch.setenv("LATENTIA_DATA", "")
    assert read(file) == CONTENT


def test_download_that_the_server_decompressed(file, cache, server):
    server.content_encoding = True
    assert read(file) == CONTENT
    assert (cache / "set" / NAME).read_bytes() == CONTENT


def test_corrupted_download_is_refused_and_removed(file, cache, server):
    server.files[f"/{NAME}"] = gzip.compress(CONTENT[1:])
    with pytest.raises(ValueError, match=f"not as published: .* came from {file.address}, and was removed"):
        read(file)
    assert not (cache / "set" / NAME).exists()
    server.files[f"/{NAME}"] = PUBLISHED
    assert read(file) == CONTENT


def test_file_corrupted_in_the_cache_is_removed(file, cache, server):
    read(file)
    (cache / "set" / NAME).write_bytes(PUBLISHED[:100])
    with pytest.raises(ValueError, match=r"truncated or damaged gzip file: .* removed from the cache"):
        read(file)
    assert read(file) == CONTENT
    assert len(server.requests) == 2


def test_download_cut_off_leaves_nothing(file, cache, server):
    server.promise_more = True
    with pytest.raises(OSError, match="could not download"):
        read(file)
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_no_file_at_the_address(file, cache, server):
    server.files.clear()
    with pytest.raises(OSError, match=rf"could not download {file.address} to .* \(404 Client Error"):
        read(file)


def test_no_network_says_how_to_do_without(cache, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as closed:  # bound, so that nobody else listens there; but not listening
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/{NAME}"
        try:
            raise KeyError("what the caller is busy with is not the reason")
        except KeyError:
            with pytest.raises(OSError) as caught:
                read(PublishedFile("set", NAME, address, ""))
    message = str(caught.value)
    assert message.startswith(f"could not download {address} to {cache / 'set'} ([Errno ")
    assert os.strerror(int(message.split("[Errno ")[1].split("]")[0])) in message
    assert message.endswith(f"put {NAME} into DIR/set/, and pass data_dir=DIR or set LATENTIA_DATA=DIR")
    assert "\n" not in message


def test_cache_that_cannot_be_written(file, cache):
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text("a file where the folder should be")
    with pytest.raises(OSError, match="could not download"):
        read(file)


def test_without_pooch(file, cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match="extra 'data'"):
        read(file)


@pytest.fixture
def member(server):
    """A file that is published in a zip archive."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("folder/content.bin", CONTENT)
    server.files["/all.zip"] = archive.getvalue()
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    return PublishedFile("set", "content.bin", f"{server.address}/all.zip", sha256, "folder/content.bin")


def test_member_of_an_archive(member, cache, server):
    assert read(member) == read(member) == CONTENT
    assert (cache / "set" / "all.zip").exists()
    assert server.requests == ["/all.zip"]


def test_local_copy_of_a_member_lies_outside_of_any_archive(member, copy, server):
    folder, path = copy
    path.with_suffix("").write_bytes(CONTENT)
    assert read(member, folder) == CONTENT
    assert server.requests == []


@pytest.mark.parametrize("damage", [lambda archive: archive[:-30], lambda archive: b"<!DOCTYPE html>"])
def test_damaged_archive_is_refused_and_removed(member, cache, server, damage):
    whole = server.files["/all.zip"]
    server.files["/all.zip"] = damage(whole)
    with pytest.raises(ValueError, match=r"all.zip is a damaged zip archive.* was removed from the cache"):
        read(member)
    server.files["/all.zip"] = whole
    assert read(member) == CONTENT


def test_archive_without_the_member(member, cache):
    with pytest.raises(ValueError, match="or one without folder/other"):
        read(dataclasses.replace(member, member="folder/other"))
