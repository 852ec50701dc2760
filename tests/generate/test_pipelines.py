"""Tiny random pipelines of the classes that draw OpenCLIP embeddings, saved and loaded by our code."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

import xsearch
from tests.fakes import DIM, FakeBackend
from xsearch.errors import ModelError, UsageError
from xsearch.generate import load_decoder
from xsearch.query import embed

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
WIDTH = 8


def parts(**unet) -> dict:
    """What both kinds of pipelines consist of, as small as it goes."""
    torch.manual_seed(0)
    text = transformers.CLIPTextConfig(
        hidden_size=WIDTH, intermediate_size=8, num_attention_heads=2, num_hidden_layers=1, vocab_size=8
    )
    return {
        "tokenizer": transformers.CLIPTokenizer(model_max_length=8),
        "text_encoder": transformers.CLIPTextModel(text).eval(),
        "unet": diffusers.UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 8),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            attention_head_dim=2,
            cross_attention_dim=WIDTH,
            layers_per_block=1,
            norm_num_groups=2,
            **unet,
        ).eval(),
        "scheduler": diffusers.DDIMScheduler(),
        "vae": diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=2).eval(),
    }


@pytest.fixture(scope="module")
def unclip(tmp_path_factory):
    """A StableUnCLIP pipeline of vectors of `FakeBackend`, and its normaliser."""
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import (
        StableUnCLIPImageNormalizer,
    )

    normalizer = StableUnCLIPImageNormalizer(embedding_dim=DIM)
    torch.manual_seed(1)
    normalizer.mean = torch.nn.Parameter(torch.randn(1, DIM))
    normalizer.std = torch.nn.Parameter(torch.rand(1, DIM) + 0.5)
    vision = transformers.CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=8,
        num_attention_heads=2,
        num_hidden_layers=1,
        image_size=8,
        patch_size=8,
        projection_dim=DIM,
    )
    pipe = diffusers.StableUnCLIPImg2ImgPipeline(
        feature_extractor=transformers.CLIPImageProcessor(crop_size=8, size=8),
        image_encoder=transformers.CLIPVisionModelWithProjection(vision).eval(),
        image_normalizer=normalizer,
        image_noising_scheduler=diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        **parts(class_embed_type="projection", projection_class_embeddings_input_dim=2 * DIM),
    )
    folder = tmp_path_factory.mktemp("unclip")
    pipe.save_pretrained(folder)
    return folder, normalizer


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """A Stable Diffusion pipeline, and a file of an IP-Adapter for it."""
    from safetensors.torch import save_file

    made = parts()
    pipe = diffusers.StableDiffusionPipeline(
        safety_checker=None, feature_extractor=None, requires_safety_checker=False, **made
    )
    folder = tmp_path_factory.mktemp("sd")
    pipe.save_pretrained(folder)
    torch.manual_seed(2)
    state = {
        "image_proj.proj.weight": torch.randn(4 * WIDTH, DIM),
        "image_proj.proj.bias": torch.randn(4 * WIDTH),
        "image_proj.norm.weight": torch.ones(WIDTH),
        "image_proj.norm.bias": torch.zeros(WIDTH),
    }
    number = 1
    for name, processor in made["unet"].attn_processors.items():
        del processor
        if "attn2" in name:
            for which in ("to_k_ip", "to_v_ip"):
                state[f"ip_adapter.{number}.{which}.weight"] = torch.randn(8, WIDTH)
        number += "attn2" in name and 2
    path = tmp_path_factory.mktemp("adapter") / "ip-adapter.safetensors"
    save_file(state, path)
    return folder, path, state


def inputs_of_unet(decoder, query, **settings) -> list[dict]:
    """The keyword arguments of every call of the UNet while a query is drawn."""
    calls = []
    hook = decoder.pipe.unet.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(kwargs), with_kwargs=True
    )
    drawn = xsearch.Model(FakeBackend()).generate(query, decoder=decoder, **settings)
    hook.remove()
    assert drawn[0].picture.size == (16, 16) or drawn[0].picture.size == (8, 8)
    return calls


def test_the_embedding_reaches_the_unet_at_the_length_of_its_normaliser(unclip):
    folder, normalizer = unclip
    decoder = load_decoder(folder)
    assert (decoder.dim, decoder.steps, decoder.guidance) == (DIM, 20, 10.0)
    query = xsearch.text("red") + xsearch.text("green")
    calls = inputs_of_unet(decoder, query, steps=2, guidance=3.0, seed=4)

    (embedded,) = embed([query], FakeBackend())
    mean, std = normalizer.mean.detach()[0].double(), normalizer.std.detach()[0].double()
    length = math.sqrt(sum(m * m + s * s for m, s in zip(mean.tolist(), std.tolist(), strict=True)))
    vector = torch.from_numpy(embedded.vector).double() * length
    noise = torch.randn(1, DIM, generator=torch.Generator().manual_seed(4))[0].double()
    kept = diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2").alphas_cumprod[0].double()
    noised = (kept.sqrt() * (vector - mean) / std + (1 - kept).sqrt() * noise) * std + mean
    for call in calls:
        nothing, condition = call["class_labels"]
        assert not nothing.any()
        torch.testing.assert_close(condition[:DIM].double(), noised, atol=1e-4, rtol=1e-4)
    assert len(calls) == 2


def test_a_seed_is_a_picture(unclip):
    model, decoder = xsearch.Model(FakeBackend()), load_decoder(unclip[0])
    two = model.generate("red", decoder=decoder, steps=2, count=2, seed=1)
    (second,) = model.generate("red", decoder=decoder, steps=2, seed=2)
    np.testing.assert_array_equal(np.asarray(two[1].picture), np.asarray(second.picture))
    assert (np.asarray(two[0].picture) != np.asarray(second.picture)).any()


def test_other_lengths_on_request(unclip):
    (red, sound) = embed([xsearch.text("red"), xsearch.text("red") - 2 * xsearch.text("blue")], FakeBackend())
    by_number = load_decoder(unclip[0], norm="7").embedding(red)
    np.testing.assert_allclose(by_number[0], 7 * red.vector, rtol=1e-6)
    official = load_decoder(unclip[0], norm="official").embedding(sound)
    np.testing.assert_allclose(official[0], 14.3 * (sound.parts[0] - 2 * sound.parts[1]), rtol=1e-5)
    for wrong in ("0", "nan", "long"):
        with pytest.raises(UsageError, match="norm: expected"):
            load_decoder(unclip[0], norm=wrong)


def test_an_adapter_projects_the_embedding(adapted):
    folder, path, state = adapted
    decoder = load_decoder(folder, ip_adapter=path)
    assert decoder.dim == DIM
    calls = inputs_of_unet(decoder, "red", steps=2, guidance=3.0)
    (embedded,) = embed([xsearch.text("red")], FakeBackend())
    for call in calls:
        (images,) = call["added_cond_kwargs"]["image_embeds"]
        nothing, condition = images.reshape(2, DIM)
        assert not nothing.any()
        np.testing.assert_allclose(condition, 20 * embedded.vector, rtol=1e-5)
    layer = decoder.pipe.unet.encoder_hid_proj.image_projection_layers[0]
    tokens = state["image_proj.proj.weight"] @ (20 * torch.from_numpy(embedded.vector))
    tokens = (tokens + state["image_proj.proj.bias"]).view(4, WIDTH)
    expected = torch.nn.functional.layer_norm(tokens, (WIDTH,))
    with torch.no_grad():
        torch.testing.assert_close(layer(condition[None])[0], expected, atol=1e-4, rtol=1e-4)


def test_a_filtered_picture_is_reported(adapted):
    decoder = load_decoder(adapted[0], ip_adapter=adapted[1])
    decoder.pipe.run_safety_checker = lambda image, device, dtype: (torch.zeros_like(image), [True])
    (drawn,) = xsearch.Model(FakeBackend()).generate("red", decoder=decoder, steps=1)
    assert drawn.is_filtered


def test_pipelines_that_do_not_fit_are_refused(unclip, adapted, tmp_path):
    with pytest.raises(UsageError, match="needs an IP-Adapter"):
        load_decoder(adapted[0])
    with pytest.raises(UsageError, match="takes no IP-Adapter"):
        load_decoder(unclip[0], ip_adapter=adapted[1])
    with pytest.raises(UsageError, match="multiple of 8"):
        xsearch.Model(FakeBackend()).generate("red", decoder=load_decoder(unclip[0]), size=20)
    with pytest.raises(ModelError, match=f"of {DIM} numbers, those of fake have 5"):
        load_decoder(unclip[0]).check(dataclasses.replace(FakeBackend().fingerprint, dim=5))
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": ["pipeline", "Mine"]}))
    with pytest.raises(ModelError, match="cannot draw with a"):
        load_decoder(tmp_path)
    (tmp_path / "pipeline.py").touch()
    with pytest.raises(ModelError, match="Python code"):
        load_decoder(tmp_path)
