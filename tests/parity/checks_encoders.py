"""The pixel encoders: StoSAVi, VideoSAUR with its losses."""

import torch
from torch.nn import functional

from golden import Golden
from ocwm_encoders.savi import SAVi
from ocwm_encoders.savi_network import StoSAVi, kl_loss
from ocwm_encoders.videosaur_modules import Initialiser, Processor, SlotMixer
from ocwm_encoders.videosaur_network import Similarity, VideoSAUR, losses, similarity_target


def build_savi(golden: Golden, **other) -> StoSAVi:
    config = golden.config
    encoder = SAVi(
        num_slots=config["num_slots"],
        slot_dim=config["slot_size"],
        slot_mlp_dim=config["slot_mlp_size"],
        iterations=config["num_iterations"],
        resolution=config["resolution"],
        encoder_channels=config["enc_channels"],
        encoder_kernel=config["enc_ks"],
        feature_dim=config["enc_out_channels"],
        decoder_channels=config["dec_channels"],
        decoder_kernel=config["dec_ks"],
        decoder_resolution=config["dec_resolution"],
        **other,
    )
    network = encoder.new_network()
    network.load_state_dict(golden.weights, strict=True)
    return network.eval()


@torch.no_grad()
def check_savi_encode(golden: Golden) -> None:
    images = SAVi(resolution=golden.config["resolution"]).images(golden["in.img_uint8"])
    mean = build_savi(golden, stochastic=False)
    features = mean.features(images.flatten(0, 1)).unflatten(0, images.shape[:2])
    golden.compare("out.encoder_out_every64", features[:, :, ::64])
    slots, kernel = mean.encode(images)
    golden.compare("out.kernel_dist", kernel)
    golden.compare("out.post_slots", slots)
    golden.compare("out.kld_loss", kl_loss(kernel))
    frames = golden["out.post_slots_cont"].shape[1]
    golden.compare("out.post_slots_cont", mean.encode(images[:, :frames], previous=slots[:, -1])[0])
    golden.compare("out.recon_combined_b0_last", mean.decode(slots[:1, -1]).image[0])

    drawn, kernel = build_savi(golden).encode(images, noise=golden["in.eps"])
    golden.compare("out.kernel_dist_eps", kernel)
    golden.compare("out.post_slots_eps", drawn)


@torch.no_grad()
def check_savi_decode(golden: Golden) -> None:
    decoded = build_savi(golden).decode(golden["in.slots"])
    golden.compare("out.recon_combined", decoded.image)
    golden.compare("out.recons", decoded.colours)
    golden.compare("out.masks", decoded.masks)
    golden.compare("out.post_recon_loss", functional.mse_loss(decoded.image, golden["in.target"]))


@torch.no_grad()
def check_videosaur_processor(golden: Golden) -> None:
    config = golden.config
    initialiser = Initialiser(config["slot_dim"])
    initialiser.load_state_dict(golden.group("w.initializer."), strict=True)
    golden.compare("out.initializer_slots", initialiser(golden["in.initializer_noise"]))

    processor = Processor(
        config["slot_dim"], heads=config["heads"], first_iterations=config["first"], iterations=config["n_iters"]
    )
    processor.load_state_dict(golden.group("w.module."), strict=True)
    features, start = golden["in.features"], golden["in.slots_init"]
    for iterations in (1, 2, 3):
        slots, masks = processor.corrector(features[:, 0], start, iterations=iterations)
        golden.compare(f"out.slots_after_{iterations}_iter", slots)
        if iterations == 1:
            golden.compare("out.masks_after_1_iter", masks)
    golden.compare("out.predictor_of_slots_init", processor.predictor(start))
    states = processor(features, start)
    golden.compare("out.state", states.state)
    golden.compare("out.state_predicted", states.predicted)
    golden.compare("out.masks", states.masks)
    golden.compare("out.all_slot_states", torch.cat([start[:, None], states.predicted], dim=1))


@torch.no_grad()
def check_videosaur_decoder(golden: Golden) -> None:
    config = golden.config
    decoder = SlotMixer(
        config["slot_dim"],
        patches=config["n_patches"],
        outputs=config["outp_dim"],
        heads=config["heads"],
        blocks=config["blocks"],
        renderer_dim=config["renderer_dim"],
    )
    decoder.load_state_dict(golden.weights, strict=True)
    reconstruction, masks = decoder(golden["in.slots"])
    golden.compare("out.reconstruction", reconstruction)
    golden.compare("out.masks", masks)


def check_temporal_similarity(golden: Golden) -> None:
    config = golden.config
    settings = {
        "weight": config["sim_weight"],
        "temperature": config["temperature"],
        "shift": config["time_shift"],
    }
    with_threshold = Similarity(**settings, threshold=config["threshold"])
    keys = golden["in.keys"]
    golden.compare("out.target", similarity_target(keys, with_threshold))
    golden.compare("out.target_no_threshold", similarity_target(keys, Similarity(**settings, threshold=None)))
    compare_losses(golden, losses(golden["in.decoder_output"], golden["in.backbone_features"], keys, with_threshold))


def compare_losses(golden: Golden, terms: dict[str, torch.Tensor]) -> None:
    golden.compare("out.loss_featrec", terms["loss_featrec"])
    golden.compare("out.loss_timesim", terms["loss_timesim"])
    golden.compare("out.loss_total", terms["loss"])


def build_videosaur(golden: Golden) -> VideoSAUR:
    config, backbone = golden.config, golden.config["backbone"]
    network = VideoSAUR(
        {
            "hidden_size": backbone["hidden_size"],
            "num_hidden_layers": 12,
            "num_attention_heads": backbone["heads"],
            "mlp_ratio": backbone["mlp_ratio"],
            "image_size": backbone["image_size"],
        },
        slot_dim=config["slot_dim"],
        patches=config["n_patches"],
        predictor_heads=config["heads"],
        decoder_heads=config["heads"],
        decoder_blocks=config["allocator_blocks"],
        renderer_dim=config["renderer_dim"],
        similarity=Similarity(weight=config["sim_weight"], temperature=config["sim_temp"]),
    )
    network.load_state_dict(golden.weights, strict=True)
    return network.eval()


@torch.no_grad()
def check_videosaur_full(golden: Golden) -> None:
    network = build_videosaur(golden)
    assert network.state_dict().keys() == golden.weights.keys()
    video, noise = golden["in.video"], golden["in.initializer_noise"]
    backbone_features, keys = (
        part.reshape(*video.shape[:2], *part.shape[1:])
        for part in network.encoder.module.features_and_keys(video.flatten(0, 1))
    )
    golden.compare("out.backbone_features", backbone_features)
    golden.compare("out.vit_block_keys12", keys)
    golden.compare("out.features", network.encoder.module.output_transform(backbone_features))
    states = network.encode(video, network.initializer(noise))
    golden.compare("out.state", states.state)
    golden.compare("out.state_predicted", states.predicted)
    golden.compare("out.grouping_masks", states.masks)
    reconstruction, masks = network.decode(states.state)
    golden.compare("out.reconstruction", reconstruction)
    golden.compare("out.decoder_masks", masks)
    compare_losses(golden, network.loss(video, noise=noise))


CHECKS = {
    "savi_encode": check_savi_encode,
    "savi_decode": check_savi_decode,
    "temporal_similarity": check_temporal_similarity,
    "videosaur_decoder": check_videosaur_decoder,
    "videosaur_full": check_videosaur_full,
    "videosaur_processor": check_videosaur_processor,
}
