"""The pixel encoders: StoSAVi, VideoSAUR with its losses."""

import torch
from torch.nn import functional

from golden import Golden
from ocwm_encoders.savi import SAVi
from ocwm_encoders.savi_network import StoSAVi, kl_loss


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


CHECKS = {
    "savi_encode": check_savi_encode,
    "savi_decode": check_savi_decode,
}
